package shards

import (
	"context"
	"slices"
	"time"
)

// On-demand streams scale by their load. A shard that has taken more than half of what a shard may
// take (1 MB/s, 1,000 records/s) since the last look is split in half. A stream keeps room for twice
// the highest load of the last 30 days ("Kinesis docs: on-demand mode"), and at least the shards it
// began with and those of its warm throughput; what is beyond that is merged away.

const (
	shardBytes   = 1 << 20 // that a shard may take a second
	shardRecords = 1000
	peakDays     = 30
	// OnDemandShards is how many shards a new on-demand stream has, and the least it keeps.
	OnDemandShards = 4
)

// peak is the most shards' worth of load that a stream had on a day, in hundredths of a shard.
type peak struct {
	Day  int64 `json:"day"` // since the epoch
	Load int64 `json:"load"`
}

// scaleOnDemand looks at the load of every on-demand stream since it last did.
func (ss *Streams) scaleOnDemand(ctx context.Context) {
	seconds := ss.options.ScaleEvery.Seconds()
	for _, s := range ss.all(func(s *Stream) bool { return !s.Private && s.State() == Active && s.Attributes().Mode == OnDemand }) {
		var hot []*Shard
		var total float64 // in shards' worth
		for _, sh := range s.OpenShards() {
			load := max(float64(sh.traffic.bytes.Swap(0))/shardBytes, float64(sh.traffic.records.Swap(0))/shardRecords) / seconds
			total += load
			if load > 0.5 && sh.Start.Next().Less(sh.middle()) && sh.middle().Less(sh.End) {
				hot = append(hot, sh)
			}
		}
		err := ss.notePeak(ctx, s, int64(total*100))
		if err == nil && len(hot) > 0 {
			err = ss.splitHot(ctx, s, hot)
		} else if err == nil {
			err = ss.fit(ctx, s)
		}
		if err != nil && ss.events.ScaleFailed != nil && ctx.Err() == nil {
			ss.events.ScaleFailed(s, err)
		}
	}
}

// middle is the first hash key of the upper half of the shard's range.
func (sh *Shard) middle() Hash {
	size := Hash{sh.End.Hi - sh.Start.Hi, sh.End.Lo - sh.Start.Lo}
	if sh.End.Lo < sh.Start.Lo {
		size.Hi--
	}
	half := Hash{size.Hi >> 1, size.Lo>>1 | size.Hi<<63}
	at := Hash{sh.Start.Hi + half.Hi, sh.Start.Lo + half.Lo}
	if at.Lo < half.Lo {
		at.Hi++
	}
	return at.Next()
}

func (ss *Streams) splitHot(ctx context.Context, s *Stream, hot []*Shard) error {
	room := MaxShards - len(s.OpenShards())
	hot = hot[:min(len(hot), room, shardsAStep/3)]
	if len(hot) == 0 {
		return nil
	}
	return ss.reshape(ctx, s, func(l *layout) (*reshard, error) {
		r := new(reshard)
		for _, sh := range hot {
			if at := l.shard(sh.Number); at != nil && at.Open() {
				r.split(at, at.middle())
			}
		}
		return r, nil
	})
}

// fit scales a stream down that has more shards than its load of 30 days asks for.
func (ss *Streams) fit(ctx context.Context, s *Stream) error {
	s.update.Lock()
	peaks := s.stored.Peaks
	s.update.Unlock()
	need := int64(0)
	for _, p := range peaks {
		need = max(need, p.Load)
	}
	have := len(s.OpenShards())
	want := min(max(int((2*need+99)/100), OnDemandShards, s.Initial, s.Attributes().warmShards()), MaxShards)
	if want >= have || len(peaks) < 2 { // a stream that has not been watched for a day is left alone
		return nil
	}
	_, err := ss.Scale(ctx, s, max(want, (have+1)/2))
	return err
}

// notePeak keeps the highest load of each of the last 30 days. Only a new height is written.
func (ss *Streams) notePeak(ctx context.Context, s *Stream, load int64) error {
	today := time.Now().Unix() / (24 * 3600)
	s.update.Lock()
	defer s.update.Unlock()
	peaks := slices.DeleteFunc(slices.Clone(s.stored.Peaks), func(p peak) bool { return p.Day <= today-peakDays })
	if n := len(peaks); n > 0 && peaks[n-1].Day == today {
		if load <= peaks[n-1].Load {
			return nil
		}
		peaks[n-1].Load = load
	} else {
		peaks = append(peaks, peak{today, load})
	}
	return ss.writeLocked(ctx, s, func(r *record) { r.Peaks = peaks })
}
