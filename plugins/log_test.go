package plugins

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// What a recipe calls an attribute is its own affair: it takes nothing of the line's own
// place, and is not lost itself.
func TestAttributesWithNamesOfTheHandler(t *testing.T) {
	long := time.Date(1999, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, value := range []any{"3s", 3 * time.Second, 3, nil, long, slog.LevelError} {
		args := []any{"time", value, "level", value, "msg", value, "source", value}
		for name, log := range map[string]func(*slog.Logger){
			"in a record": func(l *slog.Logger) { l.Info("done", args...) },
			"in a logger": func(l *slog.Logger) { l.With(args...).Info("done") },
			"in a group without a name": func(l *slog.Logger) {
				l.With(slog.Group("", args[:4]...)).Info("done", slog.Group("", args[4:]...))
			},
		} {
			line := logged(t, log)
			checkOwn(t, name, line)
			for _, key := range []string{"time", "level", "msg", "source"} {
				if _, there := line[key]; !there {
					t.Errorf("%s, %v: %s is lost: %v", name, value, key, line)
				}
			}
		}
	}
}

func TestAttributesWithNamesOfTheProtocol(t *testing.T) {
	line := logged(t, func(l *slog.Logger) { l.With("@level", "loud").Info("done", "@message", "mine", "@timestamp", "never") })
	checkOwn(t, "record", line)
	if line["message"] != "mine" || line["level"] != "loud" || line["timestamp"] != "never" {
		t.Errorf("%v", line)
	}
	line = logged(t, func(l *slog.Logger) { l.WithGroup("job").Info("done", "msg", "mine") })
	checkOwn(t, "group", line)
	if job, _ := line["job"].(map[string]any); job["msg"] != "mine" {
		t.Errorf("%v", line)
	}
}

// logged returns the line that is written, in which nothing of its own stands twice.
func logged(t *testing.T, log func(*slog.Logger)) map[string]any {
	t.Helper()
	var out bytes.Buffer
	log(slog.New(newHandler(&out, slog.LevelInfo)))
	for _, own := range []string{`"@timestamp":`, `"@level":`, `"@message":`} {
		if n := strings.Count(out.String(), own); n != 1 {
			t.Errorf("%s stands there %d times: %s", own, n, out.String())
		}
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return line
}

// checkOwn checks what is the line's own.
func checkOwn(t *testing.T, name string, line map[string]any) {
	t.Helper()
	at, _ := line["@timestamp"].(string)
	when, err := time.Parse(timeLayout, at)
	if err != nil || time.Since(when) > time.Hour || line["@level"] != "info" || line["@message"] != "done" {
		t.Errorf("%s: %v: %v", name, line, err)
	}
}
