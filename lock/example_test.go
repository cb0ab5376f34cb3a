package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// example gives an example a client and a session of its own, and prints why
// it failed.
func example(run func(ctx context.Context, client *clientv3.Client, session *core.Session) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := func() (err error) {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		session, err := core.NewSession(ctx, client, core.WithOwner("billing-3"))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, session.Close()) }()
		return run(ctx, client, session)
	}()
	if err != nil {
		fmt.Println(err)
	}
}

// A program takes a lock, and gives its context and its token to whatever works
// under it.
func Example() {
	example(func(ctx context.Context, client *clientv3.Client, _ *core.Session) error {
		return transfer(ctx, client)
	})
	// Output: posted with the token of the lock: true
}

func transfer(ctx context.Context, client *clientv3.Client) error {
	// snippet:mutex
	session, err := core.NewSession(ctx, client)
	if err != nil {
		return err
	}
	defer session.Close()
	held, err := lock.NewMutex(session, "ledger").Lock(ctx)
	if err != nil {
		return err
	}
	defer held.Unlock()
	// Your own store refuses a token smaller than one it has seen.
	if err := post(held.Context(), held.Token()); err != nil {
		return err
	}
	// In etcd: it commits only if the lock is still held.
	_, err = held.Commit(held.Context(), clientv3.OpPut("balance", "42"))
	// end
	return err
}

// post stands for a write to a store that keeps the largest token it has seen.
func post(ctx context.Context, token core.Token) error {
	fromContext, ok := core.TokenFrom(ctx)
	fmt.Println("posted with the token of the lock:", ok && fromContext == token)
	return nil
}

// TryLock does not wait: it says who holds the lock, and writes nothing.
func ExampleMutex_TryLock() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		held, err := lock.NewMutex(session, "invoices", lock.WithPurpose("monthly close")).Lock(ctx)
		if err != nil {
			return err
		}
		_, err = lock.NewMutex(session, "invoices").TryLock(ctx)
		fmt.Println(errors.Is(err, lock.ErrLocked), err)
		return held.Unlock()
	})
	// Output: true lock "invoices": locked: held by billing-3 (monthly close)
}

// Do runs work under the lock, with a context that ends when the lock is lost.
func ExampleMutex_Do() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		return lock.NewMutex(session, "nightly").Do(ctx, func(ctx context.Context) error {
			_, ok := core.TokenFrom(ctx)
			fmt.Println("working, with a token:", ok)
			return ctx.Err()
		})
	})
	// Output: working, with a token: true
}

// The cause of an ended context says why a lock is not held any more.
func ExampleMutex_ForceRelease() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		mutex := lock.NewMutex(session, "stuck")
		held, err := mutex.Lock(ctx)
		if err != nil {
			return err
		}
		if _, err := mutex.ForceRelease(ctx, "host is being replaced"); err != nil {
			return err
		}
		<-held.Context().Done()
		cause := context.Cause(held.Context())
		fmt.Println(errors.Is(cause, lock.ErrLost), errors.Is(cause, core.ErrRevoked))
		fmt.Println(cause)
		return nil
	})
	// Output:
	// true true
	// lock "stuck": lock lost: revoked by billing-3: host is being replaced
}

// Contenders lists who holds a lock and who waits for it, in order.
func ExampleMutex_Contenders() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		mutex := lock.NewMutex(session, "reports", lock.WithPurpose("weekly report"))
		return mutex.Do(ctx, func(ctx context.Context) error {
			contenders, err := mutex.Contenders(ctx)
			for _, c := range contenders {
				fmt.Println(c.Owner, c.Purpose, c.Mode, c.Holds)
			}
			return err
		})
	})
	// Output: billing-3 weekly report write true
}

// Readers share the lock, and no writer is among them.
func ExampleRWMutex() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		catalogue := lock.NewRWMutex(session, "catalogue")
		one, err := catalogue.RLock(ctx)
		if err != nil {
			return err
		}
		two, err := catalogue.RLock(ctx)
		if err != nil {
			return err
		}
		_, err = catalogue.TryLock(ctx)
		fmt.Println("a writer beside them:", !errors.Is(err, lock.ErrLocked))
		return errors.Join(one.Unlock(), two.Unlock())
	})
	// Output: a writer beside them: false
}

// Downgrade lets readers see what was written before another writer can change
// it.
func ExampleHeld_Downgrade() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		writer, err := lock.NewRWMutex(session, "prices").Lock(ctx)
		if err != nil {
			return err
		}
		reader, err := writer.Downgrade(ctx)
		if err != nil {
			return errors.Join(err, writer.Unlock())
		}
		fmt.Println("a new ownership:", reader.Token() > writer.Token())
		return reader.Unlock()
	})
	// Output: a new ownership: true
}

// A semaphore bounds how many do something at once, across all processes.
func ExampleSemaphore() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		slots := lock.NewSemaphore(session, "exports", 3)
		two, err := slots.Acquire(ctx, 2)
		if err != nil {
			return err
		}
		_, err = slots.TryAcquire(ctx, 2)
		fmt.Println("two more of three:", !errors.Is(err, lock.ErrLocked))
		return two.Release()
	})
	// Output: two more of three: false
}

// A set of names is locked all at once or not at all, so that two programs that
// name them in opposite orders cannot wait for each other.
func ExampleMulti() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		names := []string{"accounts/alice", "accounts/bob"}
		return lock.NewMulti(session, names).Do(ctx, func(context.Context) error {
			fmt.Println("holding", strings.Join(names, " and "))
			return nil
		})
	})
	// Output: holding accounts/alice and accounts/bob
}

// A larger priority goes first when the lock is handed over, whoever came first.
func ExampleWithPriority() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		deploy := lock.NewMutex(session, "deploy")
		held, err := deploy.Lock(ctx)
		if err != nil {
			return err
		}
		done := make(chan error)
		for i, priority := range []int{1, 10} {
			go func() {
				done <- lock.NewMutex(session, "deploy", lock.WithPriority(priority)).Do(ctx, func(context.Context) error {
					fmt.Println("priority", priority)
					return nil
				})
			}()
			if err := lineOf(ctx, deploy, i+2); err != nil {
				return err
			}
		}
		return errors.Join(held.Unlock(), <-done, <-done)
	})
	// Output:
	// priority 10
	// priority 1
}

// lineOf waits until n hold or wait for a lock.
func lineOf(ctx context.Context, m *lock.Mutex, n int) error {
	for {
		contenders, err := m.Contenders(ctx)
		if err != nil || len(contenders) == n {
			return err
		}
	}
}

// With a lock delay a name stays closed for a while after its owner died: for
// resources that cannot check a token.
func ExampleWithLockDelay() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		printer := lock.NewMutex(session, "printer", lock.WithLockDelay(30*time.Second))
		held, err := printer.Lock(ctx)
		if err != nil {
			return err
		}
		if err := held.Unlock(); err != nil { // a release leaves no delay
			return err
		}
		held, err = printer.TryLock(ctx)
		if err != nil {
			return err
		}
		fmt.Println("open at once after a release")
		return held.Unlock()
	})
	// Output: open at once after a release
}

// Within one process a lock can go from goroutine to goroutine without a write:
// at most so many times in a row, and for so long.
func ExampleWithLocalHandover() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		counter := lock.NewMutex(session, "counter", lock.WithLocalHandover(64, time.Second))
		total := 0
		done := make(chan error)
		for range 8 {
			go func() {
				done <- counter.Do(ctx, func(context.Context) error {
					total++
					return nil
				})
			}()
		}
		var errs []error
		for range 8 {
			errs = append(errs, <-done)
		}
		fmt.Println(total)
		return errors.Join(errs...)
	})
	// Output: 8
}
