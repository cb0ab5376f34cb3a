package launcher

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// ringBytes is how much of a plugin's output is kept.
	ringBytes = 64 << 10
	// maxLine is how much of a line is kept.
	maxLine = 8 << 10
	// linesPerSecond reach the host's log; what floods it does not.
	linesPerSecond = 200
)

// A Line is a line that a plugin's process wrote.
type Line struct {
	At   time.Time // when the host read it
	PID  int       // of the process; 0: the host itself says what became of one
	Text string    // without the end of the line; at most 8 KiB of it
}

// An output is what the processes of one plugin write: the last of it is kept, and
// what the host's log can take goes there. It is safe for concurrent use.
type output struct {
	mu      sync.Mutex
	log     *slog.Logger
	lines   []Line
	size    int
	first   int           // the number of lines[0]
	more    chan struct{} // closed when there is another line
	second  int64
	logged  int // in that second
	dropped int // since the log was last told
}

func newOutput(log *slog.Logger) *output { return &output{log: log, more: make(chan struct{})} }

// attach gives the output the log of the host that opened the plugin.
func (o *output) attach(log *slog.Logger) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log = log
}

// write adds a line.
func (o *output) write(pid int, text string) {
	now := time.Now()
	o.mu.Lock()
	text = o.keep(Line{now, pid, text})
	loud, dropped := o.admit(now)
	log := o.log
	o.mu.Unlock()
	if dropped > 0 {
		log.Warn("the plugin writes more than its log takes", "pid", pid, "lines_left_out", dropped)
	}
	if loud {
		tell(log, pid, text)
	}
}

// note adds a line of the host's own, which its log has in other words: a process that
// was killed cannot say so itself.
func (o *output) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keep(Line{At: time.Now(), Text: "conclave: " + fmt.Sprintf(format, args...)})
}

// keep adds a line to those that are kept, and returns what it keeps of its text. The
// caller holds o.mu.
func (o *output) keep(l Line) string {
	if len(l.Text) > maxLine {
		l.Text = l.Text[:maxLine]
	}
	l.Text = strings.ToValidUTF8(l.Text, "\uFFFD")
	o.lines = append(o.lines, l)
	o.size += len(l.Text) + 1
	for o.size > ringBytes && len(o.lines) > 1 {
		o.size -= len(o.lines[0].Text) + 1
		o.lines = o.lines[1:]
		o.first++
	}
	close(o.more)
	o.more = make(chan struct{})
	return l.Text
}

// admit says whether a line goes to the host's log. The caller holds o.mu.
func (o *output) admit(now time.Time) (loud bool, dropped int) {
	if s := now.Unix(); s != o.second {
		dropped, o.dropped = o.dropped, 0
		o.second, o.logged = s, 0
	}
	if o.logged++; o.logged > linesPerSecond {
		o.dropped++
		return false, dropped
	}
	return true, dropped
}

// tell writes a line to the host's log: as what it was, if it has the form of a log.
func tell(log *slog.Logger, pid int, text string) {
	level, message, attrs := parse(text)
	if message == "" {
		return
	}
	log.LogAttrs(context.Background(), level, message, append(attrs, slog.Int("pid", pid))...)
}

// parse reads a line of a log in go-plugin's form. A line in another form is a
// message.
func parse(text string) (level slog.Level, message string, attrs []slog.Attr) {
	var entry map[string]any
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &entry) != nil {
		return plainLevel(text), strings.TrimSpace(text), nil
	}
	message, ok := entry["@message"].(string)
	if !ok {
		return slog.LevelInfo, text, nil
	}
	name, _ := entry["@level"].(string)
	for _, key := range []string{"@message", "@level", "@timestamp"} {
		delete(entry, key)
	}
	for _, key := range slices.Sorted(maps.Keys(entry)) {
		attrs = append(attrs, slog.Any(attribute(key), entry[key]))
	}
	return levelOf(name), message, attrs
}

// attribute is the key of a plugin's attribute in the host's log, where it must not
// stand for what the host's own handler says of the line.
func attribute(key string) string {
	switch key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey, "pid":
		return "recipe_" + key
	}
	return key
}

// plainLevel says how loud a line is that says nothing of it.
func plainLevel(text string) slog.Level {
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
		return slog.LevelError
	}
	return slog.LevelInfo
}

func levelOf(name string) slog.Level {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn", "warning":
		return slog.LevelWarn
	case "error", "critical", "fatal":
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// after returns the lines from number n on, the number of the next one, and a
// channel that is closed when that is there.
func (o *output) after(n int) (lines []Line, next int, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	skip := max(n-o.first, 0)
	if skip < len(o.lines) {
		lines = slices.Clone(o.lines[skip:])
	}
	return lines, o.first + len(o.lines), o.more
}

// text returns what is kept of one process, for a report.
func (o *output) text(pid int) string {
	lines, _, _ := o.after(0)
	var b strings.Builder
	for _, l := range lines {
		if l.PID == pid {
			b.WriteString(l.Text)
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// follow returns the lines that are kept, and those that come, until ctx ends or
// ended is closed. A reader that is slower than the plugin misses lines.
func (o *output) follow(ctx context.Context, ended <-chan struct{}, wait bool) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		for n := 0; ; {
			lines, next, more := o.after(n)
			for _, l := range lines {
				if !yield(l) {
					return
				}
			}
			n = next
			if !wait {
				return
			}
			select {
			case <-more:
			case <-ended:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// A splitter makes lines of what is written to it.
type splitter struct {
	line func(string)
	rest []byte
}

// Write implements io.Writer.
func (s *splitter) Write(b []byte) (int, error) {
	n := len(b)
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			break
		}
		s.add(b[:end])
		s.flush()
		b = b[end+1:]
	}
	s.add(b)
	return n, nil
}

// add keeps no more of a line than is of use.
func (s *splitter) add(b []byte) {
	s.rest = append(s.rest, b[:min(len(b), max(0, maxLine-len(s.rest)))]...)
}

// flush ends the line.
func (s *splitter) flush() {
	if len(s.rest) > 0 {
		s.line(strings.TrimSuffix(string(s.rest), "\r"))
	}
	s.rest = s.rest[:0]
}

// copyLines reads until the end, and makes lines of it.
func copyLines(r io.Reader, line func(string)) {
	s := &splitter{line: line}
	_, _ = io.Copy(s, r) // what cannot be read any more has been closed
	s.flush()
}
