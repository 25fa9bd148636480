// Package earthquakes is the running example: a week of seismic events, a WebAssembly plugin that
// rates them (severity) and a Lambda handler that names their region (regions).
//
// The feed is the USGS earthquake feed of 31 January to 7 February 2018, U.S. public domain, one
// JSON object a line, ordered by time; flattened from the GeoJSON in npm's vega-datasets 3.2.1.
package earthquakes

import _ "embed"

// Feed is the seismic events, one JSON object a line.
//
//go:embed earthquakes.ndjson
var Feed []byte

// Severity is the plugin, built from severity/severity.c by severity/build.sh.
//
//go:embed severity/severity.wasm
var Severity []byte

// RegionsPackage is the import path of the Lambda handler, for go build.
const RegionsPackage = "github.com/shardmill/shardmill/examples/earthquakes/regions"
