module github.com/shardmill/shardmill/internal/compat/cbor

go 1.26.0

replace github.com/shardmill/shardmill => ../../..

require (
	github.com/fxamacker/cbor/v2 v2.10.0
	github.com/shardmill/shardmill v0.0.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/segmentio/asm v1.2.1 // indirect
	github.com/x448/float16 v0.8.4 // indirect
	golang.org/x/sys v0.50.0 // indirect
)
