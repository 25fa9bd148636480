package kinesisapi

import (
	"context"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// GetShardIterator and GetRecords.

const (
	maxGetRecords = 10_000
	maxGetBytes   = 10 << 20 // data and keys
)

type getShardIteratorIn struct {
	ShardId                *string `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	ShardIteratorType      *string `aws:"required" enum:"AFTER_SEQUENCE_NUMBER,LATEST,AT_TIMESTAMP,AT_SEQUENCE_NUMBER,TRIM_HORIZON"`
	StartingSequenceNumber *string `pattern:"0|([1-9]\\d{0,128})"`
	DryRun                 *bool
	streamRef
	Timestamp *awsapi.Timestamp
}

type getShardIteratorOut struct{ ShardIterator string }

func (a *api) getShardIterator(ctx context.Context, in *getShardIteratorIn) (*getShardIteratorOut, error) {
	scope, name, err := named(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	n, err := shardNumber(scope.Account, name, *in.ShardId)
	if err != nil {
		return nil, err
	}
	s, err := a.permitted(ctx, scope, name)
	if errs.Is(err, errs.Denied) {
		return nil, err
	}
	if err != nil || s.State() == shards.Deleting || s.Shard(n) == nil {
		return nil, noShard(scope.Account, name, n)
	}
	sh := s.Shard(n)
	pos, err := startOf(ctx, s, sh, in)
	if errs.Is(err, errs.NotFound) { // the stream was deleted meanwhile
		err = noShard(scope.Account, name, n)
	}
	if err != nil {
		return nil, err
	}
	if value(in.DryRun) {
		return nil, dryRun()
	}
	if err := s.AdmitIterator(sh); err != nil {
		return nil, err
	}
	return &getShardIteratorOut{a.iterator(s, sh, pos)}, nil
}

// noShard is the complaint about a shard that its stream does not have, and about one whose stream
// is gone.
func noShard(account, stream string, number uint32) error {
	return errs.New(errs.NotFound, "Shard %s in stream %s under account %s does not exist", shards.FormatShardID(number), stream, account)
}

func (a *api) iterator(s *shards.Stream, sh *shards.Shard, pos shards.Pos) string {
	return a.tokens.seal(token{kind: iteratorToken, stream: s.ID, shard: sh.Number, pos: pos, issued: time.Now(), extra: s.Account + "/" + s.Name})
}

// startOf is the position after which an iterator of the wanted type starts.
func startOf(ctx context.Context, s *shards.Stream, sh *shards.Shard, in *getShardIteratorIn) (shards.Pos, error) {
	kind := *in.ShardIteratorType
	bySeq := kind == "AT_SEQUENCE_NUMBER" || kind == "AFTER_SEQUENCE_NUMBER"
	const choice = "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified %s and "
	if bySeq && in.StartingSequenceNumber == nil {
		return 0, errs.New(errs.Invalid, choice+"no StartingSequenceNumber.", kind)
	}
	if !bySeq && in.StartingSequenceNumber != nil {
		return 0, errs.New(errs.Invalid, choice+"also a StartingSequenceNumber.", kind)
	}
	if kind != "AT_TIMESTAMP" && in.Timestamp != nil {
		return 0, errs.New(errs.Invalid, "Timestamp is only for iterators of type AT_TIMESTAMP. Request specified %s.", kind)
	}
	switch kind {
	case "TRIM_HORIZON":
		return s.Horizon(ctx, sh)
	case "LATEST":
		return s.Tip(ctx, sh)
	case "AT_TIMESTAMP":
		if in.Timestamp == nil {
			return 0, errs.New(errs.Invalid, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter.")
		}
		if now := time.Now().UnixMilli(); int64(*in.Timestamp) > now {
			return 0, errs.New(errs.Invalid, "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: %d, currentTimestampInMillis: %d", *in.Timestamp, now)
		}
		return s.Seek(ctx, sh, int64(*in.Timestamp))
	}
	return startAtSeq(ctx, s, sh, *in.StartingSequenceNumber, kind == "AT_SEQUENCE_NUMBER")
}

// startAtSeq finds the place of a sequence number by comparison, not by lookup: numbers of trimmed
// records, a shard's StartingSequenceNumber and numbers between two records all have a place.
func startAtSeq(ctx context.Context, s *shards.Stream, sh *shards.Shard, text string, at bool) (shards.Pos, error) {
	invalid := func(why string) error {
		return errs.New(errs.Invalid, "StartingSequenceNumber %s used in GetShardIterator on shard %s in stream %s under account %s is invalid%s.", text, sh, s.Name, s.Account, why)
	}
	seq, ok := shards.ParseSeq(text)
	if !ok {
		return 0, invalid("")
	}
	if seq.Shard != sh.Number {
		return 0, errs.New(errs.Invalid, "Invalid StartingSequenceNumber. It encodes %s, while it was used in a call to a shard with %s", shards.FormatShardID(seq.Shard), sh)
	}
	if seq.Created != sh.Created {
		return 0, invalid(" because it did not come from this stream")
	}
	tip, err := s.Tip(ctx, sh)
	if err != nil {
		return 0, err
	}
	if seq == sh.EndingSeq() && !sh.Open() {
		return tip, nil
	}
	if seq.Pos > tip {
		return 0, invalid("")
	}
	if seq.Pos == 0 {
		return 0, nil
	}
	recs, _, err := s.Read(ctx, sh, seq.Pos-1, shards.Budget{Records: 1}, nil)
	if err != nil || len(recs) == 0 || recs[0].Pos != seq.Pos {
		return seq.Pos, err // trimmed: reading goes on at the horizon
	}
	stored := sh.Seq(seq.Pos, recs[0].Arrived)
	if seq.Time < stored.Time || at && seq.Time == stored.Time {
		return seq.Pos - 1, nil
	}
	return seq.Pos, nil
}

type getRecordsIn struct {
	Limit         *int32  `aws:"min=1,max=10000"`
	ShardIterator *string `aws:"required,min=1,max=512"`
	StreamARN     *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId      *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	DryRun        *bool
}

func (a *api) getRecords(ctx context.Context, body []byte) (*awsapi.Long, error) {
	begun, in := time.Now(), new(getRecordsIn)
	wire := awsapi.CallerOf(ctx).Wire
	if err := decodeAndValidate(wire, body, in); err != nil {
		return nil, err
	}
	s, sh, pos, err := a.openIterator(ctx, in)
	if err != nil {
		return nil, err
	}
	if value(in.DryRun) {
		return nil, dryRun()
	}
	if err := s.AdmitRead(sh); err != nil {
		meterGet(s, sh, nil, 0, begun, err)
		return nil, err
	}
	budget := shards.Budget{Records: maxGetRecords, Bytes: maxGetBytes}
	if in.Limit != nil {
		budget.Records = int(*in.Limit)
	}
	out := newRecordsOut(wire, sh)
	var behind int64
	out.recs, behind, err = s.Read(ctx, sh, pos, budget, out.recs)
	s.PayRead(sh, out.recs)
	if errs.Is(err, errs.NotFound) { // the stream was deleted meanwhile
		err = noShard(s.Account, s.Name, sh.Number)
	}
	meterGet(s, sh, out.recs, behind, begun, err)
	if err != nil {
		out.release()
		return nil, err
	}
	if n := len(out.recs); n > 0 {
		pos = out.recs[n-1].Pos
	} else if s.Ended(sh.Number, pos) {
		out.endWith(s.Children(sh.Number))
		return out.answer(), nil
	}
	out.goOnWith(a.iterator(s, sh, pos), behind)
	return out.answer(), nil
}

const iteratorTime = "Mon Jan 02 15:04:05 MST 2006"

func (a *api) openIterator(ctx context.Context, in *getRecordsIn) (*shards.Stream, *shards.Shard, shards.Pos, error) {
	t, ok := a.tokens.open(*in.ShardIterator, iteratorToken)
	if !ok {
		return nil, nil, 0, errs.New(errs.Invalid, "Invalid ShardIterator.")
	}
	if t.expired() {
		return nil, nil, 0, errs.New(errs.Expired, "Iterator expired. The iterator was created at time %s while right now it is %s which is further in the future than the tolerated delay of %d milliseconds.",
			t.issued.UTC().Format(iteratorTime), time.Now().UTC().Format(iteratorTime), lifetime.Milliseconds())
	}
	s := a.streams.ByID(t.stream)
	if s == nil || s.Shard(t.shard) == nil {
		account, stream, _ := strings.Cut(t.extra, "/")
		return nil, nil, 0, noShard(account, stream, t.shard)
	}
	if err := permit(ctx, s); err != nil {
		return nil, nil, 0, err
	}
	if in.StreamARN != nil && *in.StreamARN != s.ARN() {
		return nil, nil, 0, errs.New(errs.Invalid, "StreamARN %s is not the stream of the ShardIterator.", *in.StreamARN)
	}
	return s, s.Shard(t.shard), t.pos, nil
}
