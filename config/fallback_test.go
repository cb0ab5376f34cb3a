package config_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/coretest"
)

// far is a client whose etcd is away until the link heals.
func away(tb testing.TB) (*coretest.Link, []config.Option, string) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "copy")
	return etcd.Link(tb), []config.Option{config.WithFallbackFile(file), config.WithValidate(positive)}, file
}

func TestStartWithoutEtcd(t *testing.T) {
	k := key(t)
	link, opts, file := away(t)
	rev := publish(t, k, `{"rate":5}`)
	v := opened(t, etcd.Client(t), k, opts...)
	wantFile(t, file)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	link.Cut()
	v = opened(t, coretest.Dial(t, link.Endpoint()), k, opts...)
	if s := v.Latest(); s.Value.Rate != 5 || s.Revision != rev || !s.Stale {
		t.Errorf("began with %+v", *s)
	}
	last := publish(t, k, `{"rate":6}`)
	link.Heal()
	s := until(t, v, "what etcd has", func(s *config.Snapshot[limits]) bool { return s.Revision == last })
	if s.Value.Rate != 6 || s.Stale {
		t.Errorf("with etcd again: %+v", *s)
	}
}

// wantFile waits for the first copy, which is written after Open.
func wantFile(tb testing.TB, file string) []byte {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; etcd.Revision(tb) {
		data, err := os.ReadFile(file)
		if err == nil {
			return data
		}
		if time.Now().After(deadline) {
			tb.Fatal(err)
		}
	}
}

func TestStartWithoutEtcdAndWithoutACopy(t *testing.T) {
	link, opts, _ := away(t)
	link.Cut()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := config.Open[limits](ctx, coretest.Dial(t, link.Endpoint()), key(t), opts...)
	isAll(t, err, context.DeadlineExceeded)
}

// A copy that was cut off at any length, or changed in any byte, is not used: the
// program starts with the default, in place of half a value.
func TestDamagedCopies(t *testing.T) {
	k := key(t)
	_, opts, file := away(t)
	publish(t, k, `{"rate":5}`)
	opened(t, etcd.Client(t), k, opts...)
	good := wantFile(t, file)
	del(t, valueKey(k))
	for _, kv := range etcd.Dump(t, historyPrefix(k)) {
		del(t, string(kv.Key))
	}
	c, dir := etcd.Client(t), t.TempDir()
	start := func(data []byte) *config.Snapshot[limits] {
		t.Helper()
		path := filepath.Join(dir, "copy")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v := must[*config.Variable[limits]](t)(config.Open[limits](within(t), c, k, config.WithFallbackFile(path), config.WithDefault(limits{Rate: 1})))
		defer v.Close()
		return v.Latest()
	}
	if s := start(good); s.Value.Rate != 5 || !errors.Is(s.Rejected, config.ErrMissing) {
		t.Errorf("with the whole copy: %+v", *s)
	}
	for n := range good {
		if s := start(good[:n]); s.Value.Rate != 1 || s.Rejected != nil {
			t.Errorf("cut off after %d bytes: %+v", n, *s)
		}
	}
	value := len(good) - len(`{"rate":5}`)
	for i := value; i < len(good); i++ {
		changed := append([]byte(nil), good...)
		changed[i] ^= 1
		if s := start(changed); s.Value.Rate != 1 {
			t.Errorf("changed at %d: %+v", i, *s)
		}
	}
}

func TestACopyOfAnotherKey(t *testing.T) {
	k, other := key(t), key(t)
	_, opts, file := away(t)
	publish(t, k, `{"rate":5}`)
	opened(t, etcd.Client(t), k, opts...)
	wantFile(t, file)
	_, err := config.Open[limits](within(t), etcd.Client(t), other, opts...)
	isAll(t, err, config.ErrNotFound)
}

// A directory that is not there costs the copy, and nothing else.
func TestACopyThatCannotBeWritten(t *testing.T) {
	k := key(t)
	publish(t, k, `{"rate":5}`)
	v := opened(t, etcd.Client(t), k, config.WithFallbackFile(filepath.Join(t.TempDir(), "no", "copy")))
	rev := publish(t, k, `{"rate":6}`)
	until(t, v, "the next value", func(s *config.Snapshot[limits]) bool { return s.Revision == rev })
}
