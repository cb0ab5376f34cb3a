//go:build unix

package lock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// children are the functions that run as processes of their own.
func children() map[string]func() int {
	return map[string]func() int{"holder": asChild(holder), "counter": asChild(counter)}
}

// asChild gives a child function a session on the etcd of its parent.
func asChild(run func(ctx context.Context, s *core.Session, name string) error) func() int {
	return func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
		defer cancel()
		err := func() error {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ENDPOINT")}, Logger: zap.NewNop()})
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := core.NewSession(ctx, c, core.WithTTL(5*time.Second))
			if err != nil {
				return err
			}
			defer s.Close()
			return run(ctx, s, os.Getenv("NAME"))
		}()
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			return 1
		}
		return 0
	}
}

func child(tb testing.TB, function, name string) *coretest.Process {
	tb.Helper()
	return coretest.Child(tb, function, "ENDPOINT="+etcd.Endpoint(), "NAME="+name)
}

// counter adds one to a number in etcd as often as its input says, reading and
// writing it in two steps that only the lock keeps apart from others'.
func counter(ctx context.Context, s *core.Session, name string) error {
	m := lock.NewMutex(s, name)
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		times, err := strconv.Atoi(in.Text())
		if err != nil {
			return err
		}
		for range times {
			if err := m.Do(ctx, func(ctx context.Context) error { return addOne(ctx, s.Client(), "number/"+name) }); err != nil {
				return err
			}
		}
		fmt.Println("done")
	}
	return in.Err()
}

func addOne(ctx context.Context, c *clientv3.Client, key string) error {
	got, err := c.Get(ctx, key)
	if err != nil {
		return err
	}
	n := 0
	for _, kv := range got.Kvs {
		if n, err = strconv.Atoi(string(kv.Value)); err != nil {
			return err
		}
	}
	_, err = c.Put(ctx, key, strconv.Itoa(n+1))
	return err
}

func TestProcessesExcludeEachOther(t *testing.T) {
	const processes, times = 3, 40
	name := etcd.Prefix(t)
	var all []*coretest.Process
	for range processes {
		all = append(all, child(t, "counter", name))
	}
	for _, p := range all {
		p.ExpectLine("ready")
	}
	for _, p := range all {
		p.Send(strconv.Itoa(times))
	}
	for _, p := range all {
		p.ExpectLine("done")
	}
	if got := string(etcd.Dump(t, "number/"+name)[0].Value); got != strconv.Itoa(processes*times) {
		t.Errorf("the number is %s, want %d", got, processes*times)
	}
	nothingLeft(t, name)
}

// holder holds the lock and works in steps, each at a line of its input: it
// looks whether it still owns, and only then does its work.
func holder(ctx context.Context, s *core.Session, name string) error {
	held, err := lock.NewMutex(s, name).Lock(ctx)
	if err != nil {
		return err
	}
	fmt.Println("held", int64(held.Token()))
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		// The first look after a pause: no timer of this process has fired yet.
		if held.Context().Err() == nil {
			fmt.Println("worked", int64(held.Token()))
			continue
		}
		fmt.Println("stopped", int64(held.Token()))
		return afterLoss(ctx, s, held, name)
	}
	return in.Err()
}

// afterLoss tries what a holder must not get through with.
func afterLoss(ctx context.Context, s *core.Session, held *lock.Held, name string) error {
	cause := context.Cause(held.Context())
	fmt.Println("cause", errors.Is(cause, lock.ErrLost) && errors.Is(cause, core.ErrSessionExpired))
	_, err := held.Commit(ctx, clientv3.OpPut("guarded/"+name, "stale"))
	fmt.Println("commit", errors.Is(err, lock.ErrLost))
	// Past all that the library checks here: etcd itself refuses.
	resp, err := s.Client().Txn(ctx).If(held.IsOwner()).Then(clientv3.OpPut("guarded/"+name, "stale")).Commit()
	if err != nil {
		return err
	}
	fmt.Println("transaction", resp.Succeeded)
	fmt.Println("unlock", errors.Is(held.Unlock(), lock.ErrLost))
	return nil
}

// TestPausedHolders pauses processes that hold locks for longer than their TTL,
// lets others take over, and wakes them with work in their queue.
func TestPausedHolders(t *testing.T) {
	t.Parallel()
	const rounds = 20
	var resource coretest.FencedResource
	prefix := etcd.Prefix(t)
	s := session(t, core.WithTTL(time.Minute))
	var wg sync.WaitGroup
	for i := range rounds {
		name := fmt.Sprintf("%s/%d", prefix, i)
		p := child(t, "holder", name)
		old := number(t, p.ExpectLine("held"))
		wg.Go(func() { pausedRound(t, s, &resource, p, name, old) })
	}
	wg.Wait()
	counts := resource.Counts()
	if counts.UnfencedStale > 0 || counts.Refused != rounds || counts.Accepted != 3*rounds {
		t.Errorf("%+v, want %d in order, none stale, and %d late writes refused", counts, 3*rounds, rounds)
	}
	if stale := etcd.Dump(t, "guarded/"+prefix); len(stale) != rounds {
		t.Errorf("%d guarded keys, want %d", len(stale), rounds)
	}
	for _, kv := range etcd.Dump(t, "guarded/"+prefix) {
		if string(kv.Value) != "new owner" {
			t.Errorf("%s is %q", kv.Key, kv.Value)
		}
	}
}

func pausedRound(t *testing.T, s *core.Session, resource *coretest.FencedResource, p *coretest.Process, name string, old int64) {
	p.Send("work")
	resource.WriteUnfenced(name, number(t, p.ExpectLine("worked")), "old owner")
	p.Stop()
	p.Send("work")
	p.Send("more work")
	h, err := lock.NewMutex(s, name).Lock(within(t))
	if err != nil {
		t.Error(err)
		return
	}
	if int64(h.Token()) <= old {
		t.Errorf("%s: token %d after %d", name, h.Token(), old)
	}
	resource.WriteUnfenced(name, int64(h.Token()), "new owner")
	if _, err := h.Commit(within(t), clientv3.OpPut("guarded/"+name, "new owner")); err != nil {
		t.Error(err)
	}
	p.Cont()
	p.ExpectLine("stopped")
	for _, want := range []string{"cause true", "commit true", "transaction false", "unlock true"} {
		what, outcome, _ := strings.Cut(want, " ")
		if got := p.ExpectLine(what); got != outcome {
			t.Errorf("%s: %s: %s, want %s", name, what, got, outcome)
		}
	}
	for _, line := range p.Output()[2:] {
		if strings.HasPrefix(line, "worked") {
			t.Errorf("%s: it worked after its pause: %q", name, line)
		}
	}
	// A write that was under way when the process was stopped arrives now.
	if err := resource.Write(name, old, "old owner"); !errors.Is(err, coretest.ErrStale) {
		t.Errorf("%s: a late write: %v", name, err)
	}
	if h.Context().Err() != nil {
		t.Errorf("%s: the new owner lost it", name)
	}
	if err := h.Unlock(); err != nil {
		t.Error(err)
	}
	resource.WriteUnfenced(name, int64(h.Token()), "the end")
}

func number(tb testing.TB, text string) int64 {
	tb.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		tb.Error(err)
	}
	return n
}

// TestKilledHolder checks that the name of a killed process is free as soon as
// etcd has ended its lease: the waiter takes it in the next revision.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	name := etcd.Prefix(t)
	p := child(t, "holder", name)
	old := number(t, p.ExpectLine("held"))
	s := session(t, core.WithTTL(time.Minute))
	c := locking(t, lock.NewMutex(s, name))
	waiting(t, lock.NewMutex(s, name), 1)
	events := etcd.Record(t, "/conclave/default/lock/")
	p.Kill()
	h := c.get(t)
	if int64(h.Token()) <= old {
		t.Errorf("token %d after %d", h.Token(), old)
	}
	var ended, taken int64
	for _, ev := range events.Events() {
		if key := string(ev.Kv.Key); strings.HasSuffix(key, "/grant") && ev.Kv.Lease == int64(s.Lease()) {
			taken = ev.Kv.ModRevision
		} else if strings.HasSuffix(key, "/grant") && ev.Type == clientv3.EventTypeDelete && taken == 0 {
			ended = ev.Kv.ModRevision
		}
	}
	if ended == 0 || taken <= ended {
		t.Errorf("the lease ended at %d, the name was taken at %d", ended, taken)
	}
	unlock(t, h)
	nothingLeft(t, name)
}
