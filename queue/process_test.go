//go:build unix

package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/queue"
)

// children are the functions that run as processes of their own.
func children() map[string]func() int {
	return map[string]func() int{"producer": asChild(producer), "consumer": asChild(consumer)}
}

// asChild gives a child function a client of the etcd of its parent.
func asChild(run func(ctx context.Context, c *clientv3.Client, name string) error) func() int {
	return func() int {
		err := func() error {
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ENDPOINT")}, Logger: zap.NewNop()})
			if err != nil {
				return err
			}
			defer c.Close()
			return run(context.Background(), c, os.Getenv("NAME"))
		}()
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			return 1
		}
		return 0
	}
}

var hardy = []queue.Option{queue.WithMaxAttempts(100_000), queue.WithConcurrency(32), queue.WithBackoff(nil), queue.WithCodec(core.Text{}),
	queue.WithDedupWindow(time.Hour)}

// producer enqueues items, each until it knows that it is there, and ends after its
// LEAST when it is told that it is enough. It prints how many there are.
func producer(ctx context.Context, c *clientv3.Client, name string) error {
	mine, least := os.Getenv("PRODUCER"), number(os.Getenv("LEAST"))
	return core.Keep(ctx, c, func(ctx context.Context, s *core.Session) error {
		q := queue.New[string](s, name, hardy...)
		enough := make(chan struct{})
		go func() {
			defer close(enough)
			<-c.Watch(ctx, enoughKey(name), clientv3.WithRev(1))
		}()
		var put atomic.Int64
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for {
					select {
					case <-enough:
						if put.Load() >= least {
							return
						}
					default:
					}
					id := fmt.Sprint(mine, "-", put.Add(1))
					for ctx.Err() == nil {
						if _, err := q.Enqueue(ctx, id, queue.DedupID(id)); err == nil {
							break
						}
					}
				}
			})
		}
		all.Wait()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fmt.Println("done", put.Load())
		return nil
	}, core.WithTTL(5*time.Second))
}

// enoughKey tells the producers of a queue that what was to happen meanwhile has happened.
func enoughKey(name string) string { return "/enough/" + name }

// consumer counts each item in etcd. Half of its workers take one at a time and count it
// with its ack; the others take several, and count some of them so and others once an ack
// of several is confirmed.
func consumer(ctx context.Context, c *clientv3.Client, name string) error {
	fmt.Println("ready")
	return core.Keep(ctx, c, func(ctx context.Context, s *core.Session) error {
		q := queue.New[string](s, name, hardy...)
		var all sync.WaitGroup
		for n := range 32 {
			most := 1
			if n%2 == 1 {
				most = n
			}
			all.Go(func() {
				for {
					items, err := q.DequeueBatch(ctx, most)
					if err != nil {
						return
					}
					for _, err := range settleAll(ctx, c, name, items) {
						if err != nil && !errors.Is(err, queue.ErrStaleDelivery) && !errors.Is(err, core.ErrUnknownOutcome) {
							fmt.Fprintln(os.Stderr, "ack:", err)
						}
					}
				}
			})
		}
		all.Wait()
		if s.Context().Err() != nil {
			return context.Cause(s.Context())
		}
		return ctx.Err()
	}, core.WithTTL(5*time.Second))
}

// settleAll acks one item with its effect, or several: all of them, or one by itself and then
// the rest.
func settleAll(ctx context.Context, c *clientv3.Client, name string, items []*queue.Item[string]) (errs []error) {
	for _, i := range items {
		if i.Attempt > 1 {
			again(ctx, c, name, i.Value)
		}
	}
	if alone := rand.IntN(3); alone == 0 || len(items) == 1 {
		i := items[0]
		errs = append(errs, i.Ack(ctx, clientv3.OpPut("/done/"+name+"/"+i.Value, string(i.ID))))
		items = items[1:]
	}
	if len(items) == 0 {
		return errs
	}
	said := func(what string) (ops []clientv3.Op) {
		for _, i := range items {
			ops = append(ops, clientv3.OpPut(what+name+"/"+i.Value, ""))
		}
		return ops
	}
	if _, err := c.Txn(ctx).Then(said("/begun/")...).Commit(); err != nil {
		return errs // etcd restarts
	}
	if err := queue.AckAll(ctx, items); err != nil {
		return append(errs, err)
	}
	_, _ = c.Txn(ctx).Then(said("/acked/")...).Commit()
	return errs
}

// again notes an item that comes again although its ack was confirmed.
func again(ctx context.Context, c *clientv3.Client, name, item string) {
	_, _ = c.Txn(ctx).If(clientv3.Compare(clientv3.Version("/acked/"+name+"/"+item), ">", 0)).
		Then(clientv3.OpPut("/again/"+name+"/"+item, "")).Commit()
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// TestNothingIsLostOrDoneTwice kills consumers at random and restarts etcd while
// producers and consumers in processes of their own are at work. Every item has
// its effect exactly once. With CONCLAVE_SOAK=1 it is 100,000 items or more and 8
// processes of each sort.
func TestNothingIsLostOrDoneTwice(t *testing.T) {
	least, processes, kills, every := 3000, 3, 4, 400*time.Millisecond
	patience := 2 * time.Minute
	if soaking() {
		least, processes, kills, every, patience = 100_000, 8, 10, time.Second, 20*time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := embedded.Config{Name: "restarted", DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", NoFsync: !soaking()}
	member := must[*embedded.Member](t)(embedded.Start(ctx, config))
	u := must[*url.URL](t)(url.Parse(member.Endpoints()[0]))
	config.ClientAddr = u.Host
	defer func() { _ = member.Close() }()
	env := []string{"ENDPOINT=" + u.String(), "NAME=hardy"}
	var producers, consumers []*coretest.Process
	for p := range processes {
		share := append([]string{fmt.Sprintf("PRODUCER=%d", p), fmt.Sprintf("LEAST=%d", (least+processes-1)/processes)}, env...)
		producers = append(producers, coretest.Child(t, "producer", share...))
		consumers = append(consumers, coretest.Child(t, "consumer", env...))
	}
	count := func(prefixes ...string) (n int) {
		for _, prefix := range prefixes {
			if got, err := member.Client().Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly()); err == nil {
				n += int(got.Count)
			}
		}
		return n
	}
	done := func() int { return count("/done/hardy/", "/acked/hardy/") }
	began, killed := time.Now(), 0
	tick := time.NewTicker(every)
	defer tick.Stop()
	kill := func() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d items are done after %d kills", done(), killed)
		}
		n := rand.IntN(processes)
		consumers[n].Kill()
		consumers[n] = coretest.Child(t, "consumer", env...)
		killed++
	}
	for done() <= least/3 {
		kill()
	}
	if err := member.Close(); err != nil {
		t.Fatal(err)
	}
	member = must[*embedded.Member](t)(embedded.Start(ctx, config))
	for killed < kills || done() < least {
		kill()
	}
	must[*clientv3.PutResponse](t)(member.Client().Put(ctx, enoughKey("hardy"), ""))
	items := 0
	for _, p := range producers {
		items += int(number(p.ExpectLine("done ")))
	}
	for left := 1; left > 0; left = count(root("hardy")+"in/", root("hardy")+"out") {
		kill()
	}
	t.Logf("%d items, %d kills, %v", items, killed, time.Since(began))
	for _, p := range consumers {
		p.Kill()
	}
	seen := make(map[string]bool)
	for _, prefix := range []string{"/done/", "/begun/"} {
		got := must[*clientv3.GetResponse](t)(member.Client().Get(ctx, prefix+"hardy/", clientv3.WithPrefix()))
		for _, kv := range got.Kvs {
			seen[strings.TrimPrefix(string(kv.Key), prefix)] = true
			if prefix == "/done/" && kv.Version != 1 {
				t.Errorf("%s was counted %d times", kv.Key, kv.Version)
			}
		}
	}
	for _, kv := range etcdKeys(t, ctx, member, "/again/") {
		t.Errorf("delivered after its ack was confirmed: %s", kv)
	}
	for _, key := range etcdKeys(t, ctx, member, root("hardy")) {
		if k := key[len(root("hardy")):]; strings.HasPrefix(k, "in/") && k != "in/woken" || strings.HasPrefix(k, "out") {
			t.Errorf("left behind: %s", k)
		}
	}
	if len(seen) != items {
		t.Errorf("%d of %d items were delivered", len(seen), items)
	}
}

func etcdKeys(t *testing.T, ctx context.Context, member *embedded.Member, prefix string) (keys []string) {
	t.Helper()
	got := must[*clientv3.GetResponse](t)(member.Client().Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	for _, kv := range got.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}
