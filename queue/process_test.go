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

// producer enqueues its share of the items, each until it knows that it is there.
func producer(ctx context.Context, c *clientv3.Client, name string) error {
	from, to := number(os.Getenv("FROM")), number(os.Getenv("TO"))
	return core.Keep(ctx, c, func(ctx context.Context, s *core.Session) error {
		q := queue.New[string](s, name, hardy...)
		var next atomic.Int64
		next.Store(from - 1)
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for n := next.Add(1); n < to; n = next.Add(1) {
					for ctx.Err() == nil {
						if _, err := q.Enqueue(ctx, fmt.Sprint(n), queue.DedupID(fmt.Sprint(n))); err == nil {
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
		fmt.Println("done")
		return nil
	}, core.WithTTL(5*time.Second))
}

// consumer counts each item in etcd: with the ack, and after it.
func consumer(ctx context.Context, c *clientv3.Client, name string) error {
	fmt.Println("ready")
	return core.Keep(ctx, c, func(ctx context.Context, s *core.Session) error {
		q := queue.New[string](s, name, hardy...)
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for {
					i, err := q.Dequeue(ctx)
					if err != nil {
						return
					}
					err = i.Ack(ctx, clientv3.OpPut("/done/"+name+"/"+i.Value, string(i.ID)))
					if err != nil && !errors.Is(err, queue.ErrStaleDelivery) && !errors.Is(err, core.ErrUnknownOutcome) {
						fmt.Fprintln(os.Stderr, "ack:", err)
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

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// TestNothingIsLostOrDoneTwice kills consumers at random and restarts etcd while
// producers and consumers in processes of their own are at work. Every item has
// its effect exactly once. With CONCLAVE_SOAK=1 it is 100,000 items and 8
// processes of each sort.
func TestNothingIsLostOrDoneTwice(t *testing.T) {
	items, processes, every := 3000, 3, 400*time.Millisecond
	patience := 2 * time.Minute
	if soaking() {
		items, processes, every, patience = 100_000, 8, time.Second, 20*time.Minute
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
		share := append([]string{fmt.Sprintf("FROM=%d", p*items/processes), fmt.Sprintf("TO=%d", (p+1)*items/processes)}, env...)
		producers = append(producers, coretest.Child(t, "producer", share...))
		consumers = append(consumers, coretest.Child(t, "consumer", env...))
	}
	began, kills, restarted := time.Now(), 0, false
	tick := time.NewTicker(every)
	defer tick.Stop()
	for done := 0; done < items; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d of %d items are done", done, items)
		}
		n := rand.IntN(processes)
		consumers[n].Kill()
		consumers[n] = coretest.Child(t, "consumer", env...)
		kills++
		if done > items/3 && !restarted {
			restarted = true
			if err := member.Close(); err != nil {
				t.Fatal(err)
			}
			member = must[*embedded.Member](t)(embedded.Start(ctx, config))
		}
		if got, err := member.Client().Get(ctx, "/done/hardy/", clientv3.WithPrefix(), clientv3.WithCountOnly()); err == nil {
			done = int(got.Count)
		}
	}
	t.Logf("%d items, %d kills, %v", items, kills, time.Since(began))
	for _, p := range producers {
		p.ExpectLine("done")
	}
	for _, p := range consumers {
		p.Kill()
	}
	got := must[*clientv3.GetResponse](t)(member.Client().Get(ctx, "/done/hardy/", clientv3.WithPrefix()))
	for _, kv := range got.Kvs {
		if kv.Version != 1 {
			t.Errorf("%s was counted %d times", kv.Key, kv.Version)
		}
	}
	left := must[*clientv3.GetResponse](t)(member.Client().Get(ctx, root("hardy"), clientv3.WithPrefix()))
	for _, kv := range left.Kvs {
		if k := string(kv.Key)[len(root("hardy")):]; len(k) > 4 && (k[:3] == "in/" || k[:4] == "out/") {
			t.Errorf("left behind: %s", k)
		}
	}
	if len(got.Kvs) != items || !restarted {
		t.Errorf("%d of %d items were counted; restarted: %v", len(got.Kvs), items, restarted)
	}
}
