package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// FuzzRequest tries names and options: a call works, and leaves nothing, or
// says core.ErrInvalid. It never panics.
func FuzzRequest(f *testing.F) {
	f.Add("orders", "nightly", 0, int64(0), 1, 1, int64(0))
	f.Add("a/b/c/d/e/f/g/h/i", "", 128, int64(time.Second), 2, 3, int64(-1))
	f.Add("..", "\x00", -129, int64(time.Hour+1), 0, 0, int64(time.Millisecond))
	f.Add("%2F/_host", strings.Repeat("x", 257), 5, int64(-5), 1_000_001, 1_000_001, int64(time.Hour))
	f.Add("\xff", "\xff", 127, int64(1), -1, -1, int64(time.Second))
	f.Fuzz(func(t *testing.T, name, purpose string, priority int, d int64, n, limit int, hold int64) {
		s := session(t, core.WithNamespace("fuzz"))
		opts := []lock.Option{lock.WithPurpose(purpose), lock.WithPriority(priority), lock.WithGrace(time.Duration(d)), lock.WithMaxHold(time.Duration(hold)),
			lock.WithLocalHandover(n, time.Duration(d))}
		fine := func(err error) bool {
			if err != nil && !errors.Is(err, core.ErrInvalid) && !errors.Is(err, core.ErrRevoked) { // by a short longest hold
				t.Errorf("name %q: %v", name, err)
			}
			return err == nil
		}
		for _, m := range []heldLocker{lock.NewMutex(s, name, opts...), readSide{lock.NewRWMutex(s, name, opts...)},
			lock.NewMulti(s, []string{"fuzz-beside", name}, opts...)} {
			if h, err := m.TryLock(within(t)); fine(err) {
				fine(h.Unlock())
			}
		}
		if p, err := lock.NewSemaphore(s, name, limit, opts...).TryAcquire(within(t), n); fine(err) {
			fine(p.Release())
		}
		_, err := lock.NewMutex(s, name).ForceRelease(within(t), purpose)
		fine(err)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left := etcd.Dump(t, "/conclave/fuzz/"); len(left) > 0 {
			t.Errorf("left over: %s", left[0].Key)
		}
	})
}

// FuzzForeignValue puts a value of another hand under a key of the lock: calls
// return in time, without a panic, and a lock is only given to one.
func FuzzForeignValue(f *testing.F) {
	for i, values := range map[int][]string{
		0:  {"", "null", `{"acq":"x","mode":"m","set":"/nowhere/set/x","graceMs":-1}`},
		1:  {"", "two", "-3", "99999999999999999999", "2"},
		2:  {"null"},
		3:  {"[]"},
		4:  {`{"mode":"s","permits":-9}`},
		5:  {"", "null", "\x00", `{"v":99,"rec":null,"mode":"w"}`, `{"rec":"x","mode":"w"}`, `{"v":1,"rec":{"acq":"x"},"mode":"?"}`, `{"mode":"s","permits":-5,"rec":{}}`, `{"mode":"r","rec":{}}`},
		6:  {"{}"},
		7:  {"{}"},
		8:  {`{"mode":"w","rec":{}}`},
		10: {"null"},
		11: {"null"},
	} {
		for _, value := range values {
			f.Add(i, []byte(value))
		}
	}
	f.Fuzz(func(t *testing.T, key int, value []byte) {
		part := foreignKeys[uint(key)%uint(len(foreignKeys))]
		name := etcd.Prefix(t)
		name = "foreign-" + name[:strings.IndexByte(name, '-')]
		foreign(t, name, part, value)
	})
}

// foreignKeys are keys below a lock's name, well formed and not.
var foreignKeys = []string{"grant", "limit", "shadow", "read/x", "hold/x", "line/7f/x", "line/00/x", "line/zz/x", "line/x", "line/", "set/x", "notice/x", "void/x", "unknown"}

// foreign checks what the locks of a name make of a foreign value.
func foreign(t *testing.T, name, part string, value []byte) {
	s := session(t)
	other := lock.NewMutex(session(t), name)
	key := "/conclave/default/lock/" + name + "/" + part
	h := locked(t, lock.NewMutex(s, name))
	must[*clientv3.PutResponse](t)(s.Client().Put(within(t), key, string(value)))
	for _, m := range []heldLocker{other, readSide{lock.NewRWMutex(s, name)}, lock.NewMulti(s, []string{name})} {
		if _, err := m.TryLock(within(t)); part != "grant" && !errors.Is(err, lock.ErrLocked) && !errors.Is(err, lock.ErrLimitMismatch) {
			t.Errorf("%s: two hold the lock: %v", part, err)
		}
	}
	if err := h.Unlock(); err != nil && (part != "grant" || !errors.Is(err, lock.ErrLost)) {
		t.Errorf("%s: unlock: %v", part, err)
	}
	for what, call := range map[string]func(context.Context) error{
		"lock": func(ctx context.Context) error { return once(other.Lock(ctx)) },
		"read": func(ctx context.Context) error { return once(lock.NewRWMutex(s, name).RLock(ctx)) },
		"set":  func(ctx context.Context) error { return once(lock.NewMulti(s, []string{name, name + "-2"}).Lock(ctx)) },
		"permits": func(ctx context.Context) error {
			p, err := lock.NewSemaphore(s, name, 2).Acquire(ctx, 1)
			if err != nil {
				return err
			}
			return p.Release()
		},
		"contenders": func(ctx context.Context) error {
			_, err := other.Contenders(ctx)
			return err
		},
		"force": func(ctx context.Context) error {
			_, err := other.ForceRelease(ctx, "testing")
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(within(t), 20*time.Millisecond)
		err := call(ctx)
		cancel()
		known := err == nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, lock.ErrLimitMismatch) || errors.Is(err, core.ErrUnknownOutcome)
		if !known {
			t.Errorf("%s beside a foreign %s: %v", what, part, err)
		}
	}
	must[*clientv3.DeleteResponse](t)(s.Client().Delete(within(t), key))
	if err := once(other.Lock(within(t))); err != nil { // once it is gone all is well
		t.Error(err)
	}
}

func once(h *lock.Held, err error) error {
	if err != nil {
		return err
	}
	return h.Unlock()
}
