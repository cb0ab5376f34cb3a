package plugins

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"
)

// What a recipe calls an attribute is its own affair.
func TestAttributesWithNamesOfTheHandler(t *testing.T) {
	for _, value := range []any{"3s", 3 * time.Second, 3, nil, time.Now()} {
		var out bytes.Buffer
		slog.New(newHandler(&out, slog.LevelInfo)).Info("done", "time", value, "level", value)
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatalf("%v: %v", value, err)
		}
		if line["@message"] != "done" {
			t.Errorf("%v: %s", value, out.String())
		}
		if _, err := time.Parse(timeLayout, line["@timestamp"].(string)); err != nil {
			t.Errorf("%v: %v", value, err)
		}
		if line["@level"] != "info" {
			t.Errorf("%v: %s", value, out.String())
		}
	}
}
