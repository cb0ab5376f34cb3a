package plugins

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// timeLayout is the one that go-plugin reads.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// newHandler returns a handler that writes lines which a host reads back as what
// they were: JSON with go-plugin's names for the time, the level and the message. A
// recipe's attributes stand beside them, whatever it calls them.
func newHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return attributes{Handler: slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: rename})}
}

// recipes marks the key of a recipe's attribute that is also the name of one of the
// handler's own, until rename has told the two apart.
const recipes = "\x00"

// rename gives the handler's own attributes go-plugin's names, and a recipe's theirs.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	if key, marked := strings.CutPrefix(a.Key, recipes); marked {
		a.Key = strings.TrimPrefix(key, "@") // which are the host's
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("@timestamp", a.Value.Time().Format(timeLayout))
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("@level", levelName(level))
		}
	case slog.MessageKey:
		a.Key = "@message"
	}
	return a
}

// attributes is a handler that marks a recipe's attributes for rename. Those of a group
// are in no danger.
type attributes struct {
	slog.Handler

	grouped bool
}

// Handle implements slog.Handler.
func (h attributes) Handle(ctx context.Context, r slog.Record) error {
	if !h.grouped {
		marked := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
		r.Attrs(func(a slog.Attr) bool {
			marked.AddAttrs(mark(a))
			return true
		})
		r = marked
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h attributes) WithAttrs(attrs []slog.Attr) slog.Handler {
	if !h.grouped {
		attrs = markAll(attrs)
	}
	return attributes{h.Handler.WithAttrs(attrs), h.grouped}
}

// WithGroup implements slog.Handler.
func (h attributes) WithGroup(name string) slog.Handler {
	return attributes{h.Handler.WithGroup(name), h.grouped || name != ""}
}

func mark(a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, "@timestamp", "@level", "@message":
		a.Key = recipes + a.Key
	case "": // the attributes of a group without a name stand among the others
		if v := a.Value.Resolve(); v.Kind() == slog.KindGroup {
			a.Value = slog.GroupValue(markAll(v.Group())...)
		}
	}
	return a
}

func markAll(attrs []slog.Attr) []slog.Attr {
	marked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		marked[i] = mark(a)
	}
	return marked
}

func levelName(level slog.Level) string {
	switch {
	case level < slog.LevelInfo:
		return "debug"
	case level < slog.LevelWarn:
		return "info"
	case level < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}

// parseLevel reads a level's name; an empty one is info.
func parseLevel(name string) (slog.Level, error) {
	switch name {
	case "debug":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("level: %q is not one of debug, info, warn, error", name)
}
