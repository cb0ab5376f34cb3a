// Command pipeline takes orders through three queues: they are checked, paid and
// shipped. Each step acks an order, notes what it did, and puts the order into
// the next queue in one transaction, so that an order is never in two queues, nor
// in none, whichever process dies.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

func main() {
	endpoints := flag.String("endpoints", "http://127.0.0.1:2379", "etcd's client URLs, separated by commas")
	orders := flag.Int("orders", 10, "how many orders to put in; 0 only works on what is there")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(*endpoints, ","), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err == nil {
		err = core.Keep(ctx, client, func(ctx context.Context, s *core.Session) error { return pipeline(ctx, s, *orders, os.Stdout) })
		err = errors.Join(err, client.Close())
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// An order goes through all three queues.
type order struct {
	Number int      `json:"number"`
	Done   []string `json:"done"` // the steps so far
}

// pipeline puts orders in and runs all steps until ctx ends. In a real system each
// step is a program of its own, as often as it is needed.
func pipeline(ctx context.Context, s *core.Session, orders int, out io.Writer) error {
	check, pay, ship := queue.New[order](s, "orders/check"), queue.New[order](s, "orders/pay"), queue.New[order](s, "orders/ship")
	for n := range orders {
		if _, err := check.Enqueue(ctx, order{Number: n + 1}, queue.DedupID(fmt.Sprint("order-", n+1))); err != nil {
			return err
		}
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(out, format+"\n", args...)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var steps sync.WaitGroup
	steps.Go(func() { cancel(check.Consume(ctx, step("checked", pay, say))) })
	steps.Go(func() { cancel(pay.Consume(ctx, step("paid", ship, say))) })
	steps.Go(func() { cancel(ship.Consume(ctx, step("shipped", nil, say))) })
	steps.Wait()
	return context.Cause(ctx)
}

// step returns the work of one queue. What it hands to OnAck commits with the ack.
func step(name string, next *queue.Queue[order], say func(string, ...any)) func(context.Context, order) error {
	// snippet:step
	return func(ctx context.Context, o order) error {
		say("order %d is %s", o.Number, name)
		o.Done = append(o.Done, name)
		queue.OnAck(ctx, clientv3.OpPut(fmt.Sprintf("/orders/%d/%s", o.Number, name), "yes"))
		if next == nil {
			return nil
		}
		put, err := queue.EnqueueOp(next, o)
		if err != nil {
			return err
		}
		queue.OnAck(ctx, put)
		return nil
	}
	// end
}
