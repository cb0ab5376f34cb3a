package core_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// exampleClient is a client of the member that the package's tests run on.
func exampleClient() (client *clientv3.Client, done func()) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	return client, func() { _ = client.Close() }
}

// One session for the whole process carries everything that it acquires, and
// ends it when the process ends.
func ExampleNewSession() {
	client, done := exampleClient()
	defer done()
	session, err := core.NewSession(context.Background(), client, core.WithTTL(10*time.Second), core.WithOwner("billing-3"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(session.Owner(), session.TTL(), session.State())
	fmt.Println(session.Close(), session.State())
	// Output:
	// billing-3 10s active
	// <nil> expired
}

// Keep runs the work under a session, and under the next one after a loss. The
// context that the work gets says when to stop.
func ExampleKeep() {
	client, done := exampleClient()
	defer done()
	err := core.Keep(context.Background(), client, func(ctx context.Context, s *core.Session) error {
		return lock.NewMutex(s, "report").Do(ctx, func(ctx context.Context) error {
			fmt.Println("one report at a time")
			return nil
		})
	})
	fmt.Println(err)
	// Output:
	// one report at a time
	// <nil>
}

// The token travels with the context, so that code far below the lock can give
// it to whatever the lock protects.
func ExampleTokenFrom() {
	client, done := exampleClient()
	defer done()
	write := func(ctx context.Context) error {
		token, ok := core.TokenFrom(ctx)
		fmt.Println("a token:", ok && token > 0)
		return nil
	}
	session, err := core.NewSession(context.Background(), client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	if err := lock.NewMutex(session, "disk").Do(context.Background(), write); err != nil {
		fmt.Println(err)
	}
	// Output: a token: true
}

// A write to etcd carries the comparison that holds as long as the ownership
// stands: of a late owner's write nothing happens.
func ExampleOwnership() {
	client, done := exampleClient()
	defer done()
	session, err := core.NewSession(context.Background(), client)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer session.Close()
	held, err := lock.NewMutex(session, "plan").Lock(context.Background())
	if err != nil {
		fmt.Println(err)
		return
	}
	publish := func(ctx context.Context, o core.Ownership, plan string) error {
		// snippet:etcd
		resp, err := client.Txn(ctx).
			If(o.IsOwner()).
			Then(clientv3.OpPut("plan", plan)).
			Commit()
		if err != nil {
			return err
		}
		if !resp.Succeeded {
			return errors.New("somebody else owns the plan by now")
		}
		return nil
		// end
	}
	fmt.Println(publish(held.Context(), held, "a"))
	if err := held.Unlock(); err != nil {
		fmt.Println(err)
	}
	fmt.Println(publish(context.Background(), held, "b"))
	// Output:
	// <nil>
	// somebody else owns the plan by now
}
