package lock_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// refused calls f, which must return core.ErrInvalid with all of texts in its
// message, and write nothing.
func refused(t *testing.T, what string, f func(context.Context) error, texts ...string) {
	t.Helper()
	before := etcd.Revision(t)
	err := f(within(t))
	isAll(t, err, core.ErrInvalid)
	for _, text := range texts {
		if err != nil && !strings.Contains(err.Error(), text) {
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

// everyCall returns all calls of all locks of a name.
func everyCall(s *core.Session, name string, opts ...lock.Option) map[string]func(context.Context) error {
	m, rw, sem := lock.NewMutex(s, name, opts...), lock.NewRWMutex(s, name, opts...), lock.NewSemaphore(s, name, 3, opts...)
	set := lock.NewMulti(s, []string{"invalid-beside", name}, opts...)
	held := func(f func(context.Context) (*lock.Held, error)) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := f(ctx)
			return err
		}
	}
	permit := func(f func(context.Context, int) (*lock.Permit, error)) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := f(ctx, 1)
			return err
		}
	}
	work := func(context.Context) error { panic("the work runs without the lock") }
	return map[string]func(context.Context) error{
		"Mutex.Lock": held(m.Lock), "Mutex.TryLock": held(m.TryLock), "Mutex.Do": func(ctx context.Context) error { return m.Do(ctx, work) },
		"RWMutex.Lock": held(rw.Lock), "RWMutex.TryLock": held(rw.TryLock), "RWMutex.RLock": held(rw.RLock), "RWMutex.TryRLock": held(rw.TryRLock),
		"RWMutex.RDo": func(ctx context.Context) error { return rw.RDo(ctx, work) }, "Multi.Lock": held(set.Lock), "Multi.TryLock": held(set.TryLock),
		"Semaphore.Acquire": permit(sem.Acquire), "Semaphore.TryAcquire": permit(sem.TryAcquire),
	}
}

func TestInvalidNames(t *testing.T) {
	s := session(t)
	for name, limit := range map[string]string{
		"":                               "empty",
		"/":                              "empty",
		"a/":                             "empty",
		"/a":                             "empty",
		"a//b":                           "empty",
		"..":                             `".."`,
		"a/../b":                         `".."`,
		".":                              `"."`,
		"a\x00b":                         "control",
		"a\nb":                           "control",
		"\x7f":                           "control",
		"a\u0085b":                       "control",
		strings.Repeat("x", 256):         "255",
		strings.Repeat("x", 300):         "255",
		"\xff\xfe":                       "UTF-8",
		"a/b/c/d/e/f/g/h/i":              "8",
		strings.Repeat("a/", 8) + "b":    "8",
		strings.Repeat("x", 1025):        "1024",
		strings.Repeat("é", 128):         "255", // 256 bytes
		long(8, 129):                     "1024",
		"a/" + strings.Repeat("/", 1000): "8",
	} {
		for what, f := range everyCall(s, name) {
			refused(t, what+" of a bad name", f, "name", limit)
		}
		refused(t, "Contenders", func(ctx context.Context) error {
			_, err := lock.NewMutex(s, name).Contenders(ctx)
			return err
		}, "name", limit)
		refused(t, "ForceRelease", func(ctx context.Context) error {
			_, err := lock.NewMutex(s, name).ForceRelease(ctx, "testing")
			return err
		}, "name", limit)
	}
}

// long returns a name of n segments of size bytes each.
func long(n, size int) string {
	segments := make([]string, n)
	for i := range segments {
		segments[i] = strings.Repeat("x", size)
	}
	return strings.Join(segments, "/")
}

// TestNamesAtTheLimit checks that the longest names work, that no byte of a
// name is special, and that no name covers another.
func TestNamesAtTheLimit(t *testing.T) {
	s := session(t)
	names := []string{strings.Repeat("x", 255), long(8, 127), "a/b/c/d/e/f/g/h", "ü/日本/%2F", "a%2Fb", "a", "a/b", "a b", "a\\b", "...", "_host",
		"grant", "line/00/x", "read/x", "~", "a*?[", strings.Repeat("é", 127), "\u00a0", "limit/..x"}
	var held []*lock.Held
	for _, n := range names {
		held = append(held, must[*lock.Held](t)(lock.NewMutex(s, n).TryLock(within(t))))
	}
	for i, n := range names {
		cs := must[[]lock.Contender](t)(lock.NewMutex(s, n).Contenders(within(t)))
		if len(cs) != 1 || cs[0].Token != held[i].Token() || cs[0].Name != n {
			t.Errorf("%q has the contenders %+v", n, cs)
		}
	}
	for _, h := range held {
		unlock(t, h)
	}
}

func TestInvalidOptions(t *testing.T) {
	s := session(t)
	for what, c := range map[string]struct {
		opt   lock.Option
		texts []string
	}{
		"priority above":       {lock.WithPriority(128), []string{"priority", "127"}},
		"priority below":       {lock.WithPriority(-129), []string{"priority", "-128"}},
		"priority far below":   {lock.WithPriority(math.MinInt), []string{"priority", "-128"}},
		"purpose too long":     {lock.WithPurpose(strings.Repeat("x", 257)), []string{"purpose", "256"}},
		"purpose with control": {lock.WithPurpose("a\x1bb"), []string{"purpose", "control"}},
		"purpose not UTF-8":    {lock.WithPurpose("\xc3\x28"), []string{"purpose", "UTF-8"}},
		"negative grace":       {lock.WithGrace(-1), []string{"grace"}},
		"grace too long":       {lock.WithGrace(10*time.Second + 1), []string{"grace", "10s"}},
		"negative max hold":    {lock.WithMaxHold(-time.Second), []string{"max hold"}},
		"handover below":       {lock.WithLocalHandover(-1, time.Second), []string{"local handover", "65535"}},
		"handover above":       {lock.WithLocalHandover(65536, time.Second), []string{"local handover", "65535"}},
		"negative handover":    {lock.WithLocalHandover(5, -time.Second), []string{"local handover"}},
	} {
		for call, f := range everyCall(s, "invalid-options", c.opt) {
			refused(t, call+": "+what, f, c.texts...)
		}
	}
	for what, d := range map[string]time.Duration{"negative": -time.Second, "too long": time.Hour + time.Second, "half a second": 1500 * time.Millisecond} {
		for call, f := range everyCall(s, "invalid-options", lock.WithLockDelay(d)) {
			if strings.Contains(call, "RLock") || strings.Contains(call, "RDo") || strings.Contains(call, "Acquire") {
				continue // it has no effect on them
			}
			refused(t, call+": lock delay "+what, f, "lock delay")
		}
	}
	nothingLeft(t, "invalid-options", "invalid-beside")
}

func TestInvalidPermits(t *testing.T) {
	s := session(t)
	for _, c := range []struct{ limit, n int }{{0, 1}, {-1, 1}, {math.MinInt, 1}, {1_000_001, 1}, {3, 0}, {3, -1}, {3, 4}, {3, math.MaxInt}} {
		field := "permits"
		if c.limit != 3 {
			field = "limit"
		}
		m := lock.NewSemaphore(s, "invalid-permits", c.limit)
		for what, f := range map[string]func(context.Context, int) (*lock.Permit, error){"Acquire": m.Acquire, "TryAcquire": m.TryAcquire} {
			refused(t, what, func(ctx context.Context) error {
				_, err := f(ctx, c.n)
				return err
			}, field)
		}
	}
	p := permits(t, lock.NewSemaphore(s, "invalid-permits", 1_000_000), 1_000_000)
	release(t, p)
	nothingLeft(t, "invalid-permits")
}

func TestInvalidSessions(t *testing.T) {
	client := etcd.Client(t)
	for what, c := range map[string]struct {
		opt   core.SessionOption
		texts []string
	}{
		"no ttl":          {core.WithTTL(0), []string{"ttl", "5s", "1h"}},
		"negative ttl":    {core.WithTTL(-1), []string{"ttl", "5s"}},
		"half a second":   {core.WithTTL(time.Second / 2), []string{"ttl", "5s"}},
		"below the floor": {core.WithTTL(4 * time.Second), []string{"ttl", "5s"}},
		"not whole":       {core.WithTTL(7500 * time.Millisecond), []string{"ttl", "7.5s"}},
		"above":           {core.WithTTL(time.Hour + time.Second), []string{"ttl", "1h"}},
		"long owner":      {core.WithOwner(strings.Repeat("x", 256)), []string{"owner", "255"}},
		"control owner":   {core.WithOwner("a\tb"), []string{"owner", "control"}},
		"no namespace":    {core.WithNamespace(""), []string{"namespace"}},
		"two segments":    {core.WithNamespace("a/b"), []string{"namespace"}},
		"dots":            {core.WithNamespace(".."), []string{"namespace"}},
	} {
		refused(t, what, func(ctx context.Context) error {
			_, err := core.NewSession(ctx, client, c.opt)
			return err
		}, c.texts...)
	}
}
