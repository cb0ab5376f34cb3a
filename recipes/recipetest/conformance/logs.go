package conformance

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
)

// A line is something that was logged.
type line struct {
	level  slog.Level
	text   string
	recipe string // the attribute of that name
	kind   string // the attribute of that name
	err    string // the attribute "error"
}

// logs keep what hosts and recipes log.
type logs struct {
	mu      sync.Mutex
	forgave int // how many refusals were asked for
	lines   []line
	changed chan struct{} // closed and replaced with every line
}

func newLogs() *logs { return &logs{changed: make(chan struct{})} }

func (l *logs) add(one line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, one)
	close(l.changed)
	l.changed = make(chan struct{})
}

// find waits for a line.
func (l *logs) find(ctx context.Context, ok func(line) bool) (line, bool) {
	for {
		l.mu.Lock()
		i, changed := slices.IndexFunc(l.lines, ok), l.changed
		var found line
		if i >= 0 {
			found = l.lines[i]
		}
		l.mu.Unlock()
		if i >= 0 {
			return found, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return line{}, false
		}
	}
}

// all returns the lines that are so.
func (l *logs) all(ok func(line) bool) []line {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []line
	for _, one := range l.lines {
		if ok(one) {
			found = append(found, one)
		}
	}
	return found
}

// recorder is a slog.Handler that writes to logs, and on to another.
type recorder struct {
	to    *logs
	next  slog.Handler
	attrs []slog.Attr
}

// Enabled implements slog.Handler: everything is kept.
func (recorder) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (r recorder) Handle(ctx context.Context, rec slog.Record) error {
	one := line{level: rec.Level, text: rec.Message}
	take := func(a slog.Attr) bool {
		switch a.Key {
		case "recipe":
			one.recipe = a.Value.String()
		case "kind":
			one.kind = a.Value.String()
		case "error":
			one.err = a.Value.String()
		}
		return true
	}
	for _, a := range r.attrs {
		take(a)
	}
	rec.Attrs(take)
	r.to.add(one)
	if r.next.Enabled(ctx, rec.Level) {
		return r.next.Handle(ctx, rec)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (r recorder) WithAttrs(attrs []slog.Attr) slog.Handler {
	return recorder{r.to, r.next.WithAttrs(attrs), append(slices.Clip(r.attrs), attrs...)}
}

// WithGroup implements slog.Handler.
func (r recorder) WithGroup(name string) slog.Handler {
	return recorder{r.to, r.next.WithGroup(name), r.attrs}
}

// refused are the kinds of requests by which the recipe went too far, without those
// that were forgiven.
func (l *logs) refused(name string) []string {
	var kinds []string
	for _, one := range l.all(func(one line) bool { return one.level >= slog.LevelWarn && one.recipe == name && one.kind != "" }) {
		if strings.Contains(one.text, "outside its own keys") {
			kinds = append(kinds, one.kind)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return kinds[min(l.forgave, len(kinds)):]
}

// forgive takes the refusals so far as asked for.
func (l *logs) forgive(name string) {
	n := len(l.refused(name))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forgave += n
}

// levels are those at which a probe logs.
var levels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// lineOf is what a probe logs at a level.
func lineOf(level slog.Level) string { return "the suite looks for this line of " + level.String() }

// wantLines waits for what the probe logged, or for what a plugin's SDK logs when
// its recipe was opened.
func (s *Suite) wantLines(ctx context.Context) error {
	if s.subject.program != nil {
		ofPlugin := func(l line) bool {
			return l.recipe == s.subject.info.Name && l.level == slog.LevelDebug && l.text == openedLine
		}
		if _, ok := s.logs.find(ctx, ofPlugin); !ok {
			return fmt.Errorf("no line %q of its own reached the host at the level of debug", openedLine)
		}
		return nil
	}
	for _, level := range levels {
		got, ok := s.logs.find(ctx, func(l line) bool { return l.text == lineOf(level) })
		if !ok {
			return fmt.Errorf("what it logs at %v does not reach the host", level)
		}
		if got.level != level || got.recipe != s.subject.info.Name {
			return fmt.Errorf("what it logs at %v reaches the host at %v, with recipe=%q", level, got.level, got.recipe)
		}
	}
	return nil
}

// openedLine is what every plugin logs at debug, once its recipe was opened: docs/plugin-authors.md.
const openedLine = "recipe opened"
