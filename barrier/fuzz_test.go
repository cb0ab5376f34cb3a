package barrier_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

// FuzzNames tries names and options: everything works with them, and leaves
// nothing but its states; or it is core.ErrInvalid, and nothing is written.
func FuzzNames(f *testing.F) {
	f.Add("batch", "phase one", "op-1", 1)
	f.Add("a/b/c/d/e/f/g/h/i", "\x00", "", 0)
	f.Add("..", "\xff", strings.Repeat("x", 256), 10_001)
	f.Add("%2F/_host", strings.Repeat("<", 257), "a/b", 1)
	f.Add("größe", `"}`, "\u2028", -1)
	f.Fuzz(func(t *testing.T, name, purpose, op string, parties int) {
		if parties > 1 && parties <= 10_000 {
			parties = 1 // nobody else comes
		}
		s := session(t, core.WithNamespace("fuzz"))
		opts := []barrier.Option{barrier.WithPurpose(purpose)}
		before := etcd.Revision(t)
		good, bad := 0, 0
		try := func(what string, err error) {
			t.Helper()
			switch {
			case err == nil:
				good++
			case errors.Is(err, core.ErrInvalid):
				bad++
			default:
				t.Errorf("%s of %q: %v", what, name, err)
			}
		}
		h, err := barrier.New(s, name, opts...).Hold(within(t))
		if try("Hold", err); err == nil {
			noError(t, h.Release())
		}
		e, err := barrier.NewDouble(s, name, parties, opts...).Enter(within(t))
		if try("Enter", err); err == nil {
			noError(t, e.Leave(within(t)))
		}
		_, err = barrier.NewCyclic(s, name, parties, opts...).Await(within(t))
		try("Await", err)
		l := barrier.NewLatch(s, name, parties)
		err = l.CountDown(within(t), op)
		if try("CountDown", err); err == nil {
			noError(t, l.Await(within(t)))
		}
		if after := etcd.Revision(t); good == 0 && after != before {
			t.Errorf("%d calls were invalid, and the revision went from %d to %d", bad, before, after)
		}
		for _, kv := range etcd.Dump(t, "/conclave/fuzz/") {
			if key := string(kv.Key); !strings.HasSuffix(key, "/at") {
				t.Errorf("left over: %s", key)
			}
			if _, err := etcd.Client(t).Delete(within(t), string(kv.Key)); err != nil {
				t.Error(err)
			}
		}
	})
}

// foreignKeys are keys below a barrier's name, well formed and not.
var foreignKeys = []string{"double/at", "cyclic/at", "latch/at", "double/in/1/x", "double/in/x/y", "double/party/1/x", "double/left",
	"cyclic/in/1/x", "latch/done/1/x", "hold/x", "guard/x", "void/x", "unknown"}

// FuzzForeignValue puts a value of another hand under a key of the barrier: calls
// return in time, without a panic, and all goes on when it is gone.
func FuzzForeignValue(f *testing.F) {
	for key := range foreignKeys {
		for _, value := range []string{"", "null", "[]", `{"v":99,"gen":-1,"phase":"inside"}`, `{"gen":1,"phase":"open","parties":0}`,
			`{"gen":9223372036854775807,"phase":"gathering","parties":1,"past":[{"gen":3}]}`, `{"gen":2,"phase":"?","members":"x"}`} {
			f.Add(key, []byte(value))
		}
	}
	f.Fuzz(func(t *testing.T, key int, value []byte) {
		name := etcd.Prefix(t)
		name = "foreign-" + name[:strings.IndexByte(name, '-')]
		foreign := prefixOf(name) + foreignKeys[uint(key)%uint(len(foreignKeys))]
		s, client := session(t), etcd.Client(t)
		if _, err := client.Put(within(t), foreign, string(value)); err != nil {
			t.Fatal(err)
		}
		all := func(ctx context.Context) {
			_ = barrier.New(s, name).Wait(ctx)
			if e, err := barrier.NewDouble(s, name, 1).Enter(ctx); err == nil {
				_ = e.Leave(ctx)
			}
			_, _ = barrier.NewCyclic(s, name, 1).Await(ctx)
			_ = barrier.NewLatch(s, name, 1).CountDown(ctx, "a")
			_, _ = barrier.NewLatch(s, name, 1).Count(ctx)
		}
		short, stop := context.WithTimeout(within(t), 30*time.Millisecond)
		defer stop()
		all(short)
		for _, kv := range etcd.Dump(t, prefixOf(name)) {
			if _, err := client.Delete(within(t), string(kv.Key)); err != nil {
				t.Fatal(err)
			}
		}
		noError(t, barrier.New(s, name).Wait(within(t)))
		noError(t, must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t))).Leave(within(t)))
		must[int64](t)(barrier.NewCyclic(s, name, 1).Await(within(t)))
		noError(t, barrier.NewLatch(s, name, 1).CountDown(within(t), "a"))
	})
}
