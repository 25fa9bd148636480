package clients

import (
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// resharded is what a client does with a stream of one shard: put records one after another, number i
// with the data "i" and the key i mod len(Keys), in five parts. While the second part is put, it
// splits the shard at Half; while the fourth is put, it merges the children. From the start on, a
// consumer has the shards pushed; at the end, they are read with iterators. Both begin with what the
// stream began with and go on to the children of a shard when all parents of those have ended.
type resharded struct {
	Stream, ARN, Half string
	Keys              []string
	Parts, Part       int // as many parts of so many records
}

// reshardedSeen is what the client saw. Pushed is empty if the client knows no fan-out.
type reshardedSeen struct {
	Put            []placed // by number
	Polled, Pushed []passage
}

// passage is a shard from its beginning to its end, or to its last record.
type passage struct {
	Shard   string
	Parents []string // as the answer said that named it a child
	Records []numbered
}

type numbered struct{ Seq, Key, Data string }

func newResharded(client string) resharded {
	p := resharded{Stream: "split-" + client, ARN: "arn:aws:kinesis:us-east-1:000000000000:stream/split-" + client,
		Half: "170141183460469231731687303715884105728", Parts: 5, Part: 40}
	for i := range 8 {
		p.Keys = append(p.Keys, fmt.Sprint("key-", i))
	}
	return p
}

// faults are what is wrong with what a client saw, if anything: every record is read exactly once, at
// the place it was put to, in order for each key, and parents are read before children.
func (p *resharded) faults(seen *reshardedSeen, fanOut bool) []string {
	f := &reshardFaults{plan: p, put: seen.Put}
	if n := p.Parts * p.Part; len(seen.Put) != n {
		f.add("%d records have a place, want %d", len(seen.Put), n)
		return f.found
	}
	f.parents = map[string][]string{shardNo(0): nil, shardNo(1): {shardNo(0)}, shardNo(2): {shardNo(0)}}
	if p.Parts == 5 {
		f.parents[shardNo(3)] = []string{shardNo(1), shardNo(2)}
	}
	f.passages("polled", seen.Polled)
	if fanOut {
		f.passages("pushed", seen.Pushed)
	}
	return f.found
}

func shardNo(n int) string { return fmt.Sprintf("shardId-%012d", n) }

// reshardFaults gathers faults.
type reshardFaults struct {
	plan    *resharded
	put     []placed
	parents map[string][]string // by shard, sorted
	found   []string
}

func (f *reshardFaults) add(format string, args ...any) {
	f.found = append(f.found, fmt.Sprintf(format, args...))
}

func (f *reshardFaults) passages(how string, read []passage) {
	last, times, done := make(map[string]int), make([]int, len(f.put)), make(map[string]bool)
	for _, shard := range read {
		parents := slices.Sorted(slices.Values(shard.Parents))
		if want, found := f.parents[shard.Shard]; !found || !slices.Equal(parents, want) || done[shard.Shard] {
			f.add("%s: %s came with the parents %q, want %q and once", how, shard.Shard, parents, want)
		}
		for _, parent := range parents {
			if !done[parent] {
				f.add("%s: %s before its parent %s", how, shard.Shard, parent)
			}
		}
		done[shard.Shard] = true
		if len(shard.Records) == 0 {
			f.add("%s: %s is empty", how, shard.Shard)
		}
		for _, r := range shard.Records {
			n, err := strconv.Atoi(r.Data)
			if err != nil || n < 0 || n >= len(f.put) || r.Key != f.plan.Keys[n%len(f.plan.Keys)] || f.put[n] != (placed{shard.Shard, r.Seq}) {
				f.add("%s: %s holds %+v, which was not put there", how, shard.Shard, r)
				continue
			}
			if before, found := last[r.Key]; found && before >= n {
				f.add("%s: of %s, number %d comes after %d", how, r.Key, n, before)
			}
			last[r.Key] = n
			times[n]++
		}
	}
	if len(done) != len(f.parents) {
		f.add("%s: %d shards were read, want %d", how, len(done), len(f.parents))
	}
	for n, times := range times {
		if times != 1 {
			f.add("%s: number %d was read %d times", how, n, times)
		}
	}
}

func (p *resharded) check(t *testing.T, seen *reshardedSeen, fanOut bool) {
	t.Helper()
	for _, fault := range p.faults(seen, fanOut) {
		t.Error(fault)
	}
}

// The check finds what a server could do wrong.
func TestFaultsAcrossASplit(t *testing.T) {
	p := resharded{Keys: []string{"a", "b"}, Parts: 3, Part: 2}
	number := func(shard string, n int) numbered {
		return numbered{Seq: fmt.Sprint(shard, "/", n), Key: p.Keys[n%2], Data: strconv.Itoa(n)}
	}
	good := func() *reshardedSeen { // 0 to 3 before the split; then 4 has the key a, 5 the key b
		seen := &reshardedSeen{Polled: []passage{{Shard: shardNo(0)}, {Shard: shardNo(1), Parents: []string{shardNo(0)}}, {Shard: shardNo(2), Parents: []string{shardNo(0)}}}}
		for n, shard := range []int{0, 0, 0, 0, 1, 2} {
			r := number(shardNo(shard), n)
			seen.Put = append(seen.Put, placed{shardNo(shard), r.Seq})
			seen.Polled[shard].Records = append(seen.Polled[shard].Records, r)
		}
		return seen
	}
	for want, spoil := range map[string]func(s *reshardedSeen){
		"[]": func(*reshardedSeen) {},
		"[polled: number 2 was read 0 times]": func(s *reshardedSeen) {
			s.Polled[0].Records = slices.Delete(s.Polled[0].Records, 2, 3)
		},
		"[polled: of b, number 1 comes after 1 polled: number 1 was read 2 times]": func(s *reshardedSeen) {
			s.Polled[0].Records = slices.Insert(s.Polled[0].Records, 2, s.Polled[0].Records[1])
		},
		"[polled: of a, number 0 comes after 2]": func(s *reshardedSeen) {
			r := s.Polled[0].Records
			r[0], r[2] = r[2], r[0]
		},
		"[polled: shardId-000000000002 holds {Seq:shardId-000000000001/4 Key:a Data:4}, which was not put there]": func(s *reshardedSeen) {
			s.Polled[2].Records = append(s.Polled[2].Records, s.Polled[1].Records[0])
		},
		"[polled: shardId-000000000001 before its parent shardId-000000000000 polled: of a, number 0 comes after 4]": func(s *reshardedSeen) {
			s.Polled[0], s.Polled[1] = s.Polled[1], s.Polled[0]
		},
		"[polled: shardId-000000000001 is empty polled: number 4 was read 0 times]": func(s *reshardedSeen) { s.Polled[1].Records = nil },
		"[polled: 2 shards were read, want 3 polled: number 5 was read 0 times]":    func(s *reshardedSeen) { s.Polled = s.Polled[:2] },
		`[polled: shardId-000000000001 came with the parents [], want ["shardId-000000000000"] and once]`: func(s *reshardedSeen) {
			s.Polled[1].Parents = nil
		},
		"[5 records have a place, want 6]": func(s *reshardedSeen) { s.Put = s.Put[:5] },
	} {
		seen := good()
		spoil(seen)
		if got := fmt.Sprint(p.faults(seen, false)); got != want {
			t.Errorf("found %s\n want %s", got, want)
		}
	}
}

// Records keep their order over a split and a merge under way, and none is lost or doubled, whichever
// client puts and reads them.
func TestAcrossASplit(t *testing.T) {
	if testing.Short() {
		t.Skip("runs programs for seconds")
	}
	t.Run("CLI", func(t *testing.T) {
		path, err := exec.LookPath("aws")
		if err != nil {
			t.Skip("the AWS CLI (aws) is not on the PATH")
		}
		t.Parallel()
		acrossCLI(t, path)
	})
	t.Run("Go", func(t *testing.T) {
		t.Parallel()
		acrossGo(t)
	})
	scripts := map[string]func(*testing.T) (name string, args, env []string){
		"boto3": func(t *testing.T) (string, []string, []string) {
			needBoto3(t)
			return "python3", []string{"testdata/across.py"}, nil
		},
		"JavaScript": func(t *testing.T) (string, []string, []string) {
			node, env := needNode(t)
			return node, []string{"testdata/across.cjs"}, env
		},
		"Java": func(t *testing.T) (string, []string, []string) { return "java", java(t, "Across"), nil },
	}
	for client, script := range scripts {
		t.Run(client, func(t *testing.T) {
			name, args, env := script(t)
			t.Parallel()
			h, p := newServer(t), newResharded(strings.ToLower(client))
			s := start(t, h.URL(), p, env, name, args...)
			var got reshardedSeen
			s.next(t, &got)
			s.end(t)
			p.check(t, &got, true)
		})
	}
}
