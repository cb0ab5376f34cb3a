package cli

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// A gate is a log handler that lets records through only while it is open. etcd
// warns of the same harmless things at every start and reports its own stop as
// errors; what goes wrong then is told by the error of the call.
type gate struct {
	slog.Handler
	open *atomic.Bool
}

func newGate(h slog.Handler) gate { return gate{Handler: h, open: new(atomic.Bool)} }

// Enabled reports whether a record of this level would be written now.
func (g gate) Enabled(ctx context.Context, l slog.Level) bool {
	return g.open.Load() && g.Handler.Enabled(ctx, l)
}

// WithAttrs keeps the gate.
func (g gate) WithAttrs(attrs []slog.Attr) slog.Handler {
	return gate{g.Handler.WithAttrs(attrs), g.open}
}

// WithGroup keeps the gate.
func (g gate) WithGroup(name string) slog.Handler { return gate{g.Handler.WithGroup(name), g.open} }
