package launcher

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
)

// What a plugin calls an attribute does not stand for what the host's log says of the line.
func TestAttributesOfAPlugin(t *testing.T) {
	var out bytes.Buffer
	tell(slog.New(slog.NewJSONHandler(&out, nil)), 42, `{"@level":"warn","@message":"done","@timestamp":"then","msg":"a","time":"b","level":"c","pid":"d","key":"e"}`)
	for _, own := range []string{`"msg":`, `"time":`, `"level":`, `"pid":`} {
		if n := strings.Count(out.String(), own); n != 1 {
			t.Errorf("%s stands there %d times", own, n)
		}
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{"msg": "done", "level": "WARN", "pid": 42.0, "recipe_msg": "a", "recipe_time": "b", "recipe_level": "c", "recipe_pid": "d", "key": "e"} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
}
