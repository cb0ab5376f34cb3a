package barrier_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
)

// TestManyParties is for more parties than a Join reads: it counts them, and who
// finds enough reads the list.
func TestManyParties(t *testing.T) {
	const sessions, each = 4, 20
	const n = sessions * each
	name := etcd.Prefix(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	tokens := make(map[core.Token]bool)
	for range sessions {
		s := session(t)
		for range each {
			wg.Go(func() {
				for want := int64(1); want < 3; want++ {
					e, err := barrier.NewDouble(s, name, n, barrier.WithBreakOnLoss()).Enter(within(t))
					if err != nil || e.Generation() != want {
						t.Errorf("entered %+v, %v", e, err)
						return
					}
					mu.Lock()
					tokens[e.Token()] = true
					mu.Unlock()
					noErrorNow(t, e.Leave(within(t)))
					g, err := barrier.NewCyclic(s, name, n).Await(within(t))
					if err != nil || g != want {
						t.Errorf("met in generation %d, %v", g, err)
					}
				}
			})
		}
	}
	wg.Wait()
	if len(tokens) != 2*n {
		t.Errorf("%d tokens", len(tokens))
	}
	onlyStates(t, name)
}

// TestOneTooManyOfMany lets one more come than fit, where Joins count.
func TestOneTooManyOfMany(t *testing.T) {
	const n = 66
	name := etcd.Prefix(t)
	s := session(t)
	results := make(chan error, n+1)
	for range n + 1 {
		go func() {
			_, err := barrier.NewDouble(s, name, n).Enter(within(t))
			results <- err
		}()
	}
	full := 0
	for range n + 1 {
		if err := <-results; err != nil {
			isAll(t, err, barrier.ErrFull)
			full++
		}
	}
	if full != 1 {
		t.Errorf("%d of %d were told that it is full", full, n+1)
	}
	tickets(t, name, n)
}

// TestWaitsGoOnAcrossARestart restarts etcd below waits of all kinds.
func TestWaitsGoOnAcrossARestart(t *testing.T) {
	config := embedded.Config{Name: "restarted", DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true, NoFsync: true}
	member := must[*embedded.Member](t)(embedded.Start(within(t), config))
	t.Cleanup(func() { noErrorNow(t, member.Close()) }) // after the sessions
	u, err := url.Parse(member.Endpoints()[0])
	noError(t, err)
	config.ClientAddr = u.Host
	open := func() *core.Session {
		s := must[*core.Session](t)(core.NewSession(within(t), coretest.Dial(t, member.Endpoints()[0]), core.WithTTL(time.Minute)))
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s, other, name := open(), open(), "restarted"
	h := held(t, barrier.New(other, name))
	w := waitingFor(within(t), barrier.New(s, name))
	d := entering(within(t), barrier.NewDouble(s, name, 2))
	c := awaiting(within(t), barrier.NewCyclic(s, name, 2))
	l := opening(within(t), barrier.NewLatch(s, name, 1))
	client := coretest.Dial(t, member.Endpoints()[0])
	for _, key := range []string{"double/in/", "cyclic/in/", "latch/at"} {
		for n := int64(0); n == 0; {
			n = must[*clientv3.GetResponse](t)(client.Get(within(t), prefixOf(name)+key, clientv3.WithPrefix(), clientv3.WithCountOnly())).Count
		}
	}
	noError(t, member.Close())
	member = must[*embedded.Member](t)(embedded.Start(within(t), config))
	w.pending(t)
	noError(t, h.Release())
	w.get(t)
	e := must[*barrier.Entry](t)(barrier.NewDouble(other, name, 2).Enter(within(t)))
	must[int64](t)(barrier.NewCyclic(other, name, 2).Await(within(t)))
	c.get(t)
	noError(t, barrier.NewLatch(other, name, 1).CountDown(within(t), "a"))
	l.get(t)
	out := leaving(within(t), e)
	noError(t, d.get(t).Leave(within(t)))
	out.get(t)
}

// TestWithoutSpace fills etcd's quota: what is held and entered is let go all the
// same, and what cannot be written is an error and leaves nothing.
func TestWithoutSpace(t *testing.T) {
	e := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) { c.QuotaBytes = 4 << 20 }))
	s, name := sessionOn(t, e, core.WithTTL(time.Minute)), "full"
	h := held(t, barrier.New(s, name))
	entry := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t)))
	ctx, cancel := context.WithCancel(within(t))
	c := entering(ctx, barrier.NewDouble(s, name+"/2", 2))
	client := e.Client(t)
	for {
		if _, err := client.Put(within(t), "fill", strings.Repeat("x", 200<<10)); errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
	}
	noError(t, h.Release())
	noError(t, barrier.New(s, name).Wait(within(t)))
	noError(t, entry.Leave(within(t)))
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	for what, err := range map[string]error{
		"Hold": second(barrier.New(s, name).Hold(within(t))), "CountDown": barrier.NewLatch(s, name, 1).CountDown(within(t), "a"),
		"Enter": second(barrier.NewDouble(s, name, 1).Enter(within(t))), "Await": second(barrier.NewCyclic(s, name, 1).Await(within(t))),
	} {
		if !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Errorf("%s without space: %v", what, err)
		}
	}
	for _, kv := range e.Dump(t, "/conclave/") {
		if key := string(kv.Key); strings.Contains(key, "/in/") || strings.Contains(key, "/hold/") {
			t.Errorf("left over: %s", key)
		}
	}
}
