package models

import (
	"encoding/json"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"testing"
)

// model is botocore's description of the service, as far as inputs go.
type model struct {
	Operations map[string]struct{ Input *ref }
	Shapes     map[string]*shape
}

type ref struct{ Shape string }

// shape is a type and its constraints.
type shape struct {
	Type     string // structure, list, map, string, integer, boolean, blob, timestamp
	Required []string
	Members  map[string]ref
	Member   ref // of a list
	Key      ref // of a map
	Value    ref
	Min, Max *int
	Pattern  string
	Enum     []string
}

// botocore reads the model of the botocore that python3 has.
func botocore(t *testing.T) *model {
	t.Helper()
	text, err := modelText()
	if err != nil {
		t.Skipf("python3 with botocore is not installed: %v", err)
	}
	m := new(model)
	if err := json.Unmarshal(text, m); err != nil {
		t.Fatal(err)
	}
	if len(m.Operations) < 39 {
		t.Fatalf("the model has %d operations", len(m.Operations))
	}
	return m
}

var modelText = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("python3", "-c", `
import json, sys, botocore.loaders
json.dump(botocore.loaders.Loader().load_service_model("kinesis", "service-2", "2013-12-02"), sys.stdout)`).Output()
})

func (m *model) names() []string { return slices.Sorted(maps.Keys(m.Operations)) }
