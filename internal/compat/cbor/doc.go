// Package cborcompat holds our CBOR against fxamacker/cbor, a library that knows all of RFC 8949. It
// is a module of its own so that this dependency stays out of shardmill's.
//
//	go test ./...
//	go test -fuzz FuzzWellFormed
//	go test -fuzz FuzzValues
package cborcompat
