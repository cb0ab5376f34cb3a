package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/lock"
)

// fill writes until etcd refuses, and makes room again.
func fill(t *testing.T, c *clientv3.Client) (room func()) {
	t.Helper()
	for i := 0; ; i++ {
		_, err := c.Put(within(t), fmt.Sprint("fill/", i), strings.Repeat("x", 200<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		gone, err := c.Delete(within(t), "fill/", clientv3.WithPrefix())
		if err == nil {
			_, err = c.Compact(within(t), gone.Header.Revision, clientv3.WithCompactPhysical())
		}
		if err == nil {
			_, err = c.Defragment(within(t), c.Endpoints()[0])
		}
		if err == nil {
			_, err = c.AlarmDisarm(within(t), &clientv3.AlarmMember{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// When etcd is out of space it takes deletes only. A lock can then be released,
// though not handed over: the first in line takes it when there is space again.
func TestReleaseWithoutSpace(t *testing.T) {
	small := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) { c.QuotaBytes = 4 << 20 }))
	open := func() *core.Session {
		s, err := core.NewSession(within(t), small.Client(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	owner, waiter := open(), open()
	acquire := func(name string) func(ctx context.Context, s *core.Session) (release func() error, err error) {
		return func(ctx context.Context, s *core.Session) (func() error, error) {
			switch name {
			case "read":
				h, err := lock.NewRWMutex(s, name).RLock(ctx)
				return releaseOf(h), err
			case "permits":
				p, err := lock.NewSemaphore(s, name, 1).Acquire(ctx, 1)
				if err != nil {
					return nil, err
				}
				return p.Release, nil
			case "set":
				h, err := lock.NewMulti(s, []string{"set", "set2"}).Lock(ctx)
				return releaseOf(h), err
			default:
				h, err := lock.NewMutex(s, name).Lock(ctx)
				return releaseOf(h), err
			}
		}
	}
	names := []string{"plain", "waited", "read", "permits", "set"}
	releases := map[string]func() error{}
	waits := make(chan error, len(names))
	for _, name := range names {
		release, err := acquire(name)(within(t), owner)
		if err != nil {
			t.Fatal(err)
		}
		releases[name] = release
		if name == "plain" {
			continue
		}
		go func() {
			if name == "read" {
				h, err := lock.NewRWMutex(waiter, name).Lock(within(t)) // readers would share
				if err == nil {
					err = h.Unlock()
				}
				waits <- err
				return
			}
			release, err := acquire(name)(within(t), waiter)
			if err == nil {
				err = release()
			}
			waits <- err
		}()
		eventually(t, name+" has a waiter", func() bool {
			return len(small.Dump(t, "/conclave/default/lock/"+name+"/line/")) > 0
		})
	}
	room := fill(t, small.Client(t))
	for _, name := range names {
		if err := releases[name](); err != nil {
			t.Errorf("release of %s: %v", name, err)
		}
	}
	if _, err := lock.NewMutex(owner, "new").Lock(within(t)); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("acquire: %v, want etcd's error", err)
	}
	room()
	for range len(names) - 1 {
		if err := <-waits; err != nil && !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("a waiter: %v", err)
		}
	}
}

func releaseOf(h *lock.Held) func() error {
	if h == nil {
		return nil
	}
	return h.Unlock
}
