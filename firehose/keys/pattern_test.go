package keys

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

// goldenLines reads a table of testdata: lines of tab-separated fields, # starts a comment.
func goldenLines(t *testing.T, name string) [][]string {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var lines [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		if !strings.HasPrefix(s.Text(), "# ") {
			lines = append(lines, strings.Split(s.Text(), "\t"))
		}
	}
	return lines
}

// notOurs are patterns that Java 17 takes and Firehose's list of letters does not have.
var notOurs = map[string]bool{"B": true, "BBBB": true, "g": true, "v": true, "vvvv": true}

func TestPatternsPrintWhatJavaPrints(t *testing.T) {
	lines := goldenLines(t, "formatter.tsv")
	var instants []time.Time
	for _, s := range lines[0][2:] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		instants = append(instants, time.Unix(n, 0))
	}
	texts, refused := 0, 0
	for _, line := range lines[1:] {
		source, zoneID, want := line[0], line[1], line[2:]
		if zoneID == "!parse" {
			z, _ := loadZone("")
			if _, err := compile(source, z); err == nil {
				t.Errorf("pattern %q was accepted; Java refuses it", source)
			}
			refused++
			continue
		}
		z, err := loadZone(zoneID)
		if err != nil {
			t.Fatal(err)
		}
		p, err := compile(source, z)
		if notOurs[source] || strings.Contains(strings.Join(want, " "), "!print") {
			if err == nil {
				t.Errorf("pattern %q was accepted; it has a letter that is not on the list, or cannot always be printed", source)
			}
			refused++
			continue
		}
		if err != nil {
			t.Errorf("pattern %q was refused: %v; Java takes it", source, err)
			continue
		}
		for i, at := range instants {
			if zoneID == "Africa/Casablanca" && at.Year() > 2087 {
				continue // beyond the known Ramadans Java calls +01 summer time, the IANA standard time
			}
			if got := string(p.append(nil, at.In(z.location), z)); got != want[i] {
				t.Errorf("%q at %s in %s = %q, Java prints %q", source, at.UTC(), zoneID, got, want[i])
			}
			texts++
		}
	}
	if texts < 7000 || refused < 90 {
		t.Errorf("compared %d texts and %d refusals: the golden table was not read in full", texts, refused)
	}
}

func TestZonesHaveJavasOffsetsAndNames(t *testing.T) {
	winter, summer := time.Unix(1705320000, 0), time.Unix(1721044800, 0)
	compared := 0
	for _, line := range goldenLines(t, "zones.tsv") {
		if line[0] == "Africa/Windhoek" {
			continue // on Central Africa Time since 2017; Java 17 names it Western African Time
		}
		z, err := loadZone(line[0])
		if err != nil {
			t.Errorf("%s: %v", line[0], err)
			continue
		}
		p, err := compile("xxx z zzzz", z)
		if err != nil {
			t.Errorf("%s: %v", line[0], err)
			continue
		}
		for i, at := range []time.Time{winter, summer} {
			if got := string(p.append(nil, at.In(z.location), z)); got != line[1+i] {
				t.Errorf("%s at %s = %q, Java prints %q", line[0], at.UTC(), got, line[1+i])
			}
			compared++
		}
	}
	if compared < 1000 {
		t.Errorf("only %d texts were compared", compared)
	}
}

func TestPatternErrorsSayWhatIsWrong(t *testing.T) {
	z, _ := loadZone("UTC")
	for source, want := range map[string]string{
		"b":          "the pattern letter b is not supported",
		"ddd":        "the pattern letter d cannot be repeated 3 times",
		"'abc":       "no closing quote",
		"yyyy]":      "was not opened",
		"yyyy#":      "# is reserved",
		"pp":         "must be followed by a letter",
		"pp-":        "must be followed by a letter",
		"ppMMMM":     `MMMM can be as long as "January", which exceeds the 2 characters`,
		"SSSSSSSSSS": "cannot be repeated 10 times",
	} {
		if _, err := compile(source, z); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("compile(%q) = %v, want an error with %q", source, err, want)
		}
	}
}
