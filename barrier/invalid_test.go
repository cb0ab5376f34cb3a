package barrier_test

import (
	"context"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

// refused calls f, which must return core.ErrInvalid with all of texts in its
// message, and write nothing.
func refused(t *testing.T, what string, f func(context.Context) error, texts ...string) {
	t.Helper()
	before := etcd.Revision(t)
	err := f(within(t))
	isAll(t, err, core.ErrInvalid)
	for _, text := range texts {
		if err != nil && !contains(err, text) {
			t.Errorf("%s: %q does not say %q", what, err, text)
		}
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("%s: revision went from %d to %d", what, before, after)
	}
	if t.Failed() {
		t.Fatal(what)
	}
}

// everyCall returns all calls of all types of a name.
func everyCall(s *core.Session, name string, parties int, opts ...barrier.Option) map[string]func(context.Context) error {
	b, d := barrier.New(s, name, opts...), barrier.NewDouble(s, name, parties, opts...)
	l, c := barrier.NewLatch(s, name, parties), barrier.NewCyclic(s, name, parties, opts...)
	return map[string]func(context.Context) error{
		"Barrier.Hold":    func(ctx context.Context) error { return second(b.Hold(ctx)) },
		"Barrier.Wait":    b.Wait,
		"Barrier.Open":    func(ctx context.Context) error { return second(b.Open(ctx)) },
		"Barrier.Holders": func(ctx context.Context) error { return second(b.Holders(ctx)) },
		"Barrier.Resume":  func(ctx context.Context) error { return second(b.Resume(ctx, 1)) },
		"Double.Enter":    func(ctx context.Context) error { return second(d.Enter(ctx)) },
		"Double.Resume":   func(ctx context.Context) error { return second(d.Resume(ctx, 1)) },
		"Cyclic.Await":    func(ctx context.Context) error { return second(c.Await(ctx)) },
		"Latch.CountDown": func(ctx context.Context) error { return l.CountDown(ctx, "a") },
		"Latch.Await":     l.Await,
		"Latch.Count":     func(ctx context.Context) error { return second(l.Count(ctx)) },
		"Latch.Reset":     l.Reset,
	}
}

func second[T any](_ T, err error) error { return err }

func TestInvalidNames(t *testing.T) {
	s := session(t)
	for name, limit := range map[string]string{
		"":                            "empty",
		"a/":                          "empty",
		"a//b":                        "empty",
		"..":                          `".."`,
		"a\x00b":                      "control",
		"a\nb":                        "control",
		strings.Repeat("x", 256):      "255",
		"\xff\xfe":                    "UTF-8",
		strings.Repeat("a/", 8) + "b": "8",
		strings.Repeat("x", 1025):     "1024",
	} {
		for what, f := range everyCall(s, name, 1) {
			refused(t, what+" of a bad name", f, "name", limit)
		}
	}
}

func TestInvalidParties(t *testing.T) {
	s := session(t)
	for _, n := range []int{0, -1, 10_001} {
		for what, f := range everyCall(s, "invalid-parties", n) {
			switch kind, _, _ := strings.Cut(what, "."); {
			case what == "Double.Resume", kind == "Barrier":
			case kind == "Latch":
				refused(t, what, f, "count", "10000")
			default:
				refused(t, what, f, "parties", "10000")
			}
		}
	}
}

func TestInvalidOptions(t *testing.T) {
	s := session(t)
	for what, c := range map[string]struct {
		opt   barrier.Option
		calls []string
		texts []string
	}{
		"purpose too long":      {barrier.WithPurpose(strings.Repeat("x", 257)), []string{"Barrier.Hold", "Double.Enter", "Cyclic.Await"}, []string{"purpose", "256"}},
		"purpose with control":  {barrier.WithPurpose("a\x1bb"), []string{"Barrier.Hold", "Double.Enter", "Cyclic.Await"}, []string{"purpose", "control"}},
		"operation too long":    {barrier.WithOperation(strings.Repeat("x", 256)), []string{"Cyclic.Await"}, []string{"operation", "255"}},
		"operation of a caller": {barrier.WithOperation("a"), []string{"Cyclic.Await"}, []string{"operation", "session"}},
	} {
		calls := everyCall(s, "invalid-options", 1, c.opt)
		for _, call := range c.calls {
			refused(t, call+": "+what, calls[call], c.texts...)
		}
	}
	for what, op := range map[string]string{"empty": "", "255": strings.Repeat("x", 256), "control": "a\nb", "UTF-8": "\xff"} {
		refused(t, "CountDown", func(ctx context.Context) error {
			return barrier.NewLatch(s, "invalid-options", 1).CountDown(ctx, op)
		}, "operation", what)
	}
}
