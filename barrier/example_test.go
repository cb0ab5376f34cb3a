package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

// example gives an example a session of its own, and prints why it failed.
func example(run func(ctx context.Context, session *core.Session) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := func() (err error) {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		session, err := core.NewSession(ctx, client, core.WithOwner("worker-3"))
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

// Every worker of a batch runs this: nobody begins with the second phase before
// all are through with the first.
func ExampleDouble() {
	example(func(ctx context.Context, session *core.Session) error {
		var workers sync.WaitGroup
		for range 3 {
			workers.Go(func() {
				if err := phase(ctx, session); err != nil {
					fmt.Println(err)
				}
			})
		}
		workers.Wait()
		fmt.Println("all are through")
		return nil
	})
	// Output:
	// in phase 1
	// in phase 1
	// in phase 1
	// all are through
}

func phase(ctx context.Context, session *core.Session) error {
	// snippet:barrier
	entry, err := barrier.NewDouble(session, "import", 3).Enter(ctx)
	if err != nil {
		return err
	}
	// All three are here. The context ends if this one drops out.
	err = work(entry.Context(), entry.Generation())
	return errors.Join(err, entry.Leave(ctx))
	// end
}

func work(_ context.Context, phase int64) error {
	_, err := fmt.Println("in phase", phase)
	return err
}

// A loader holds a barrier until the data is there; the servers wait for it.
func ExampleBarrier() {
	example(func(ctx context.Context, session *core.Session) error {
		loading := barrier.New(session, "catalog", barrier.WithBreakOnLoss())
		hold, err := loading.Hold(ctx)
		if err != nil {
			return err
		}
		served := make(chan error)
		go func() {
			err := loading.Wait(ctx) // barrier.ErrBroken if the loader died
			fmt.Println("serving")
			served <- err
		}()
		fmt.Println("loading")
		return errors.Join(hold.Release(), <-served)
	})
	// Output:
	// loading
	// serving
}

// A latch opens when every shard was counted, each once, whoever did it and
// however often it was repeated.
func ExampleLatch() {
	example(func(ctx context.Context, session *core.Session) error {
		shards := barrier.NewLatch(session, "reindex", 2)
		for _, shard := range []string{"shard-0", "shard-1", "shard-0"} {
			if err := shards.CountDown(ctx, shard); err != nil {
				return err
			}
		}
		err := shards.Await(ctx)
		fmt.Println("reindexed")
		return err
	})
	// Output: reindexed
}

// Simulations meet after every step, and learn who is missing if one dies.
func ExampleCyclic() {
	example(func(ctx context.Context, session *core.Session) error {
		steps := barrier.NewCyclic(session, "simulation", 1)
		for range 2 {
			step, err := steps.Await(ctx)
			if lost, ok := barrier.LostMember(err); ok {
				return fmt.Errorf("start %s again: %w", lost, err)
			}
			if err != nil {
				return err
			}
			fmt.Println("step", step)
		}
		return nil
	})
	// Output:
	// step 1
	// step 2
}
