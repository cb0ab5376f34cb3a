package embedded

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/conclavehq/conclave/internal/logbridge"
)

// fatalHook stands where etcd ends the process. etcd reports such errors by logging them at zap's panic or fatal level, on whichever
// of its goroutines met them, so the logger is the only place from which they can be seen.
type fatalHook struct {
	onFatal func(reason string)
	once    sync.Once
	failed  chan error // one error while the server is being built

	removed atomic.Bool // other members said that this one is none of them any more

	mu      sync.Mutex
	booting bool
}

func newFatalHook(onFatal func(string)) *fatalHook {
	return &fatalHook{onFatal: onFatal, failed: make(chan error, 1), booting: true}
}

// served ends the time in which an error is an answer to Start rather than the end of the process.
func (h *fatalHook) served() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.booting = false
}

func (h *fatalHook) logger(cfg Config) *zap.Logger {
	return zap.New(zapcore.NewTee(logbridge.Zap(cfg.Logger, zapcore.WarnLevel), removalCore{h}),
		zap.WithFatalHook(hookThen{h, zapcore.WriteThenFatal}),
		zap.WithPanicHook(hookThen{h, zapcore.WriteThenPanic}))
}

type hookThen struct {
	hook *fatalHook
	then zapcore.CheckWriteAction
}

func (t hookThen) OnWrite(ce *zapcore.CheckedEntry, fields []zapcore.Field) {
	reason := describe(ce.Message, fields)
	if t.hook.failBoot(reason) {
		// Nothing has been promised to anyone yet: this goroutine of etcd ends, Start reports, and the process lives.
		runtime.Goexit()
	}
	t.hook.once.Do(func() {
		if t.hook.onFatal != nil {
			t.hook.onFatal(reason)
		}
	})
	t.then.OnWrite(ce, fields)
}

func (h *fatalHook) failBoot(reason string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.booting {
		return false
	}
	select {
	case h.failed <- fmt.Errorf("%w: %s", ErrCorrupt, reason):
	default:
	}
	return true
}

func describe(msg string, fields []zapcore.Field) string {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	parts := []string{msg}
	for _, key := range []string{"path", "error", "panic"} {
		if v, ok := enc.Fields[key]; ok {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	return strings.ReplaceAll(strings.Join(parts, ": "), "\n", " ")
}

// removalCore looks, whatever the log's level is, for the one line by which etcd tells why a member ends that has not learnt itself that it was
// removed: its channels only say that a server is stopping.
type removalCore struct{ hook *fatalHook }

func (c removalCore) Enabled(l zapcore.Level) bool      { return l == zapcore.WarnLevel }
func (c removalCore) With([]zapcore.Field) zapcore.Core { return c }
func (c removalCore) Sync() error                       { return nil }

func (c removalCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) && e.Message == "data-dir used by this member must be removed" {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c removalCore) Write(zapcore.Entry, []zapcore.Field) error {
	c.hook.removed.Store(true)
	return nil
}
