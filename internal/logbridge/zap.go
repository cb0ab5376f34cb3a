// Package logbridge carries what a dependency logs, in its own logger's form, to a [log/slog.Logger].
//
// Conclave's signatures know slog only. etcd's server wants zap; this package is the one place where the two meet.
package logbridge

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap/zapcore"
)

// Zap returns a zap core that writes entries of at least that level to log. A nil log returns a core that drops everything.
// A level above error has no counterpart in slog and is written as an error; ending the process is left to the zap logger's own hooks.
func Zap(log *slog.Logger, least zapcore.Level) zapcore.Core {
	if log == nil {
		return zapcore.NewNopCore()
	}
	return &zapCore{handler: log.Handler(), min: least}
}

type zapCore struct {
	handler slog.Handler
	min     zapcore.Level
}

func (c *zapCore) Enabled(l zapcore.Level) bool {
	return l >= c.min && c.handler.Enabled(context.Background(), slogLevel(l))
}

func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{handler: c.handler.WithAttrs(attrs(fields)), min: c.min}
}

func (c *zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, slogLevel(e.Level), e.Message, callerPC(e))
	if e.LoggerName != "" {
		r.AddAttrs(slog.String("logger", e.LoggerName))
	}
	r.AddAttrs(attrs(fields)...)
	return c.handler.Handle(context.Background(), r)
}

// Sync has nothing to flush: a slog handler writes before it returns.
func (c *zapCore) Sync() error { return nil }

func slogLevel(l zapcore.Level) slog.Level {
	switch {
	case l < zapcore.InfoLevel:
		return slog.LevelDebug
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	default:
		return slog.LevelError
	}
}

// attrs renders zap fields. Keys are sorted because zap's own map encoder loses their order.
func attrs(fields []zapcore.Field) []slog.Attr {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	keys := make([]string, 0, len(enc.Fields))
	for k := range enc.Fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	out := make([]slog.Attr, len(keys))
	for i, k := range keys {
		out[i] = slog.Any(k, enc.Fields[k])
	}
	return out
}

// callerPC hands on the place that zap recorded, if it did: a slog handler resolves a return address by stepping back one instruction.
func callerPC(e zapcore.Entry) uintptr {
	if !e.Caller.Defined {
		return 0
	}
	return e.Caller.PC + 1
}
