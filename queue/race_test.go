package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/queue"
)

// TestManyGoroutines has producers and consumers of several sessions use one
// queue in every way at once. Every item has its effect exactly once.
func TestManyGoroutines(t *testing.T) {
	const sessions, producers, consumers, items = 3, 3, 4, 60
	name := etcd.Prefix(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	opts := []queue.Option{queue.WithMaxAttempts(1000), queue.WithVisibility(2 * time.Second), queue.WithCapacity(200)}
	var putting, taking sync.WaitGroup
	for s := range sessions {
		q := queue.New[string](session(t), name, opts...)
		for p := range producers {
			putting.Go(func() {
				for n := range items {
					put(t, q, fmt.Sprintf("%d-%d-%d", s, p, n), options(n)...)
				}
			})
		}
		for range consumers {
			taking.Go(func() { work(ctx, t, q, name) })
		}
	}
	putting.Wait()
	checker := queue.New[string](session(t), name, opts...)
	until(t, func() bool { return depth(t, checker) == 0 })
	cancel()
	taking.Wait()
	effects := etcd.Dump(t, "/done/"+name+"/")
	if want := sessions * producers * items; len(effects) != want {
		t.Errorf("%d items had their effect, want %d", len(effects), want)
	}
	for _, kv := range effects {
		if kv.Version != 1 {
			t.Errorf("%s had its effect %d times", kv.Key, kv.Version)
		}
	}
	for _, part := range []string{"in/", "out/", "next/", "busy/", "idle/"} {
		until(t, func() bool { return len(under(t, name, part)) == 0 })
	}
}

func options(n int) []queue.PutOption {
	opts := []queue.PutOption{queue.WaitForRoom()}
	switch n % 4 {
	case 1:
		opts = append(opts, queue.Priority(n%3))
	case 2:
		opts = append(opts, queue.Group(fmt.Sprint(n%5)))
	case 3:
		opts = append(opts, queue.Delay(time.Duration(n)*time.Millisecond))
	}
	return opts
}

func work(ctx context.Context, t *testing.T, q *queue.Queue[string], name string) {
	for {
		wait, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(100)+1)*time.Millisecond)
		i, err := q.Dequeue(wait)
		cancel()
		switch {
		case ctx.Err() != nil && i == nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
			continue
		case err != nil:
			t.Error(err)
			return
		}
		switch rand.IntN(5) {
		case 0:
			err = i.Nack(within(t), time.Duration(rand.IntN(2))*10*time.Millisecond)
		default:
			err = i.Ack(within(t), clientv3.OpPut("/done/"+name+"/"+i.Value, ""))
		}
		if err != nil && !errors.Is(err, queue.ErrStaleDelivery) {
			t.Error(err)
		}
	}
}

func TestConsume(t *testing.T) {
	name := etcd.Prefix(t)
	q := queue.New[string](session(t), name, queue.WithConcurrency(8), queue.WithBackoff(nil))
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	for n := range 100 {
		put(t, q, fmt.Sprint(n))
	}
	done := make(chan error, 1)
	var mu sync.Mutex
	seen := make(map[string]int)
	go func() {
		done <- q.Consume(ctx, func(ctx context.Context, v string) error {
			mu.Lock()
			defer mu.Unlock()
			seen[v]++
			if seen[v] == 1 && v[len(v)-1] == '7' {
				return errors.New("try again")
			}
			if err := queue.Extend(ctx, time.Minute); err != nil {
				return err
			}
			if !queue.OnAck(ctx, clientv3.OpPut("/done/"+name+"/"+v, "")) {
				t.Error("OnAck outside of Consume")
			}
			return nil
		})
	}()
	until(t, func() bool { return depth(t, q) == 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Consume: %v", err)
	}
	if n := len(etcd.Dump(t, "/done/"+name+"/")); n != 100 {
		t.Errorf("%d effects", n)
	}
	mu.Lock()
	defer mu.Unlock()
	if seen["7"] != 2 || seen["8"] != 1 {
		t.Errorf("7 was worked on %d times, 8 %d times", seen["7"], seen["8"])
	}
}
