package kinesisapi

import (
	"context"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// StartStreamEncryption and StopStreamEncryption. They hold when they have answered, also where the
// stream is UPDATING for a while longer.

const kms = "KMS"

type encryptionIn struct {
	EncryptionType *string `aws:"required" enum:"NONE,KMS"`
	KeyId          *string `aws:"required,min=1,max=2048"`
	streamRef
}

// toEncrypt finds the stream. AWS's sentence about another type is not known.
func (a *api) toEncrypt(ctx context.Context, in *encryptionIn) (*shards.Stream, error) {
	s, err := a.active(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if *in.EncryptionType != kms {
		return nil, errs.New(errs.Invalid, "EncryptionType %s cannot be used here: KMS is the only type of encryption. StopStreamEncryption ends it.", *in.EncryptionType)
	}
	return s, nil
}

func (a *api) startStreamEncryption(ctx context.Context, in *encryptionIn) (*empty, error) {
	s, err := a.toEncrypt(ctx, in)
	if err == nil {
		err = a.daily(ctx, s, "StartStreamEncryption", encryptionsADay)
	}
	if err != nil {
		return nil, err
	}
	return nil, a.streams.StartEncryption(ctx, s, *in.KeyId)
}

func (a *api) stopStreamEncryption(ctx context.Context, in *encryptionIn) (*empty, error) {
	s, err := a.toEncrypt(ctx, in)
	if err == nil {
		err = a.daily(ctx, s, "StopStreamEncryption", encryptionsADay)
	}
	if err != nil {
		return nil, err
	}
	return nil, a.streams.StopEncryption(ctx, s, *in.KeyId)
}

// encryption is what the descriptions of a stream say of it: the key as it was named.
type encryption struct {
	EncryptionType string
	KeyId          *string
}

func encryptionOf(s *shards.Stream) encryption {
	if at := s.Attributes(); at.Key != 0 {
		return encryption{kms, &at.KeyID}
	}
	return encryption{EncryptionType: "NONE"}
}
