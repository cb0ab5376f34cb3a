package queue_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

// example gives an example a client and a session of its own, and prints why
// it failed.
func example(run func(ctx context.Context, session *core.Session) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := func() (err error) {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		session, err := core.NewSession(ctx, client)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, session.Close()) }()
		return run(ctx, session)
	}()
	if err != nil {
		fmt.Println(err)
	}
}

// An item is worked on and acked; the invoice is written in the ack's
// transaction, so there is one invoice however often the item was delivered.
func Example() {
	example(func(ctx context.Context, session *core.Session) error {
		// snippet:queue
		orders := queue.New[string](session, "orders")
		if _, err := orders.Enqueue(ctx, "4711", queue.DedupID("order-4711")); err != nil {
			return err
		}
		order, err := orders.Dequeue(ctx)
		if err != nil {
			return err
		}
		fmt.Println("working on", order.Value, "attempt", order.Attempt)
		return order.Ack(ctx, clientv3.OpPut("/invoices/"+order.Value, "paid"))
		// end
	})
	// Output: working on 4711 attempt 1
}

// Consume acks what the function returns nil for, and delivers again, after a
// while, what it fails on. The ack moves the item to the next queue.
func ExampleQueue_Consume() {
	example(func(ctx context.Context, session *core.Session) error {
		uploads, thumbnails := queue.New[string](session, "uploads"), queue.New[string](session, "thumbnails")
		for _, name := range []string{"a.jpg", "b.jpg"} {
			if _, err := uploads.Enqueue(ctx, name); err != nil {
				return err
			}
		}
		work, stop := context.WithCancel(ctx)
		err := uploads.Consume(work, func(ctx context.Context, name string) error {
			fmt.Println("checked", name)
			next, err := queue.EnqueueOp(thumbnails, name)
			if err != nil {
				return err
			}
			queue.OnAck(ctx, next)
			if name == "b.jpg" {
				stop()
			}
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			return err
		}
		n, err := thumbnails.Len(ctx)
		fmt.Println(n, "to shrink")
		return err
	})
	// Output:
	// checked a.jpg
	// checked b.jpg
	// 2 to shrink
}

// An item that was given up on keeps the reason, and can be put back.
func ExampleQueue_DeadLetters() {
	example(func(ctx context.Context, session *core.Session) error {
		mails := queue.New[string](session, "mails", queue.WithMaxAttempts(1))
		if _, err := mails.Enqueue(ctx, "to nobody"); err != nil {
			return err
		}
		mail, err := mails.Dequeue(ctx)
		if err != nil {
			return err
		}
		if err := mail.NackReason(ctx, time.Second, "no such address"); err != nil {
			return err
		}
		dead, err := mails.DeadLetters().Peek(ctx, 10)
		if err != nil {
			return err
		}
		fmt.Println(dead[0].Value, "-", dead[0].Reason)
		n, err := mails.DeadLetters().Requeue(ctx)
		fmt.Println("requeued", n)
		return err
	})
	// Output:
	// to nobody - attempt 1 of 1: no such address
	// requeued 1
}
