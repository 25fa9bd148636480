// Package localca is a certificate authority of one host: it makes a key and a certificate of its
// own once, keeps them in a folder, and signs certificates for the names under which the host is
// reached. Clients trust ca.pem once and are never told to switch verification off.
//
//	DIR/ca.pem      to be trusted by clients
//	DIR/ca-key.pem  0600; whoever has it can impersonate any name to those clients
//
// The host's own certificate is made anew at each start and while it runs; it is nowhere on disk.
package localca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

const (
	caFile     = "ca.pem"
	caKeyFile  = "ca-key.pem"
	caLife     = 10 * 365 * 24 * time.Hour
	leafLife   = 397 * 24 * time.Hour // the longest that clients accept
	renewAfter = leafLife / 2
	backdate   = time.Hour // for clients whose clock is behind
)

// CA signs certificates for a set of names.
type CA struct {
	File string // ca.pem

	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	names []string // host names and IP addresses

	mu   sync.Mutex
	leaf *tls.Certificate
	made time.Time
}

// Open reads the authority in dir, or makes it. names are what certificates are for, beside
// localhost, *.localhost, 127.0.0.1, ::1 and the machine's own name.
func Open(dir string, names []string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the folder of the certificate authority cannot be made")
	}
	c := &CA{File: filepath.Join(dir, caFile), names: append([]string{"localhost", "*.localhost", "127.0.0.1", "::1"}, names...)}
	if own, err := os.Hostname(); err == nil {
		c.names = append(c.names, own)
	}
	err := c.read(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = c.make(dir)
	}
	return c, err
}

func (c *CA) read(dir string) error {
	keyPEM, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		return err
	}
	certPEM, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "%s and %s in %s are damaged or do not belong together: remove both to make new ones, which clients then have to trust", caFile, caKeyFile, dir)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return errs.New(errs.Invalid, "%s is not a certificate authority made here", c.File)
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return errs.New(errs.Invalid, "%s expired on %s: remove it and %s to make new ones, which clients then have to trust", c.File, pair.Leaf.NotAfter.Format(time.DateOnly), caKeyFile)
	}
	c.cert, c.key = pair.Leaf, key
	return nil
}

// make writes a new authority. The key comes first: a certificate without its key would be trusted
// by clients and of no use here.
func (c *CA) make(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "shardmill local CA " + serial.Text(16)[:8]},
		NotBefore: time.Now().Add(-backdate), NotAfter: time.Now().Add(caLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, caKeyFile), "PRIVATE KEY", keyDER, 0o600); err != nil {
		return err
	}
	if err := writePEM(c.File, "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	c.key = key
	c.cert, err = x509.ParseCertificate(der)
	return err
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

// writePEM writes aside and renames, so that no half file is ever read.
func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the certificate authority cannot be written")
	}
	return os.Rename(tmp, path)
}

// Config is a server's TLS configuration with a certificate of this authority, renewed in time.
func (c *CA) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.certificate() }}
}

func (c *CA) certificate() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaf != nil && time.Since(c.made) < renewAfter {
		return c.leaf, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(leafLife)
	if until.After(c.cert.NotAfter) {
		until = c.cert.NotAfter
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "shardmill"},
		NotBefore: time.Now().Add(-backdate), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range c.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		return nil, err
	}
	c.leaf, c.made = &tls.Certificate{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key}, time.Now()
	return c.leaf, nil
}
