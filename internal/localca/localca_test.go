package localca

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// shake connects a client that trusts only ca.pem, by some name.
func shake(t *testing.T, c *CA, name string) error {
	t.Helper()
	pem, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatal("ca.pem has no certificate")
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(b, c.Config()).Handshake()
	return tls.Client(a, &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2"}}).Handshake()
}

func TestClientsThatTrustTheFileConnectByEveryName(t *testing.T) {
	c, err := Open(t.TempDir(), []string{"mill.example", "10.1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "kinesis.localhost", "127.0.0.1", "::1", "mill.example", "10.1.2.3"} {
		if err := shake(t, c, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := shake(t, c, "elsewhere.example"); err == nil {
		t.Error("a name that is none of ours was certified")
	}
}

func TestTheAuthorityIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(first.File)
	again, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(again.File); string(after) != string(before) {
		t.Fatal("a second open made another authority")
	}
	if err := shake(t, again, "localhost"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, caKeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the key's mode is %v, %v", info.Mode(), err)
	}
}

func TestDamagedFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, nil); err != nil {
		t.Fatal(err)
	}
	other, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	foreign, _ := os.ReadFile(other.File)
	for _, content := range []string{"", "nonsense", string(foreign)} {
		if err := os.WriteFile(filepath.Join(dir, caFile), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), "ca.pem and ca-key.pem in "+dir+" are damaged") {
			t.Errorf("ca.pem %.10q: %v", content, err)
		}
	}
}

func TestCertificatesAreRenewedBeforeTheyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := c.certificate()
		time.Sleep(renewAfter - time.Hour)
		if same, _ := c.certificate(); same != first {
			t.Fatal("renewed too early")
		}
		time.Sleep(2 * time.Hour)
		if next, _ := c.certificate(); next == first {
			t.Fatal("not renewed in time")
		}
	})
}
