package election_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
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
		session, err := core.NewSession(ctx, client, core.WithOwner("scheduler-3"))
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

// Every process of a service runs this; one of them leads at a time. Keep opens a
// new session after a loss.
func Example() {
	example(func(ctx context.Context, client *clientv3.Client, _ *core.Session) error {
		ctx, stop := context.WithCancel(ctx)
		err := schedule(ctx, client, stop)
		if !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	// Output: scheduling
}

func schedule(ctx context.Context, client *clientv3.Client, stop func()) error {
	// snippet:election
	return core.Keep(ctx, client, func(ctx context.Context, session *core.Session) error {
		scheduler := election.New(session, "scheduler")
		return scheduler.Run(ctx, "10.0.0.7:9000", func(ctx context.Context) error {
			fmt.Println("scheduling")
			stop()
			<-ctx.Done() // work until the term ends
			return nil
		})
	})
	// end
}

// A term is a value: it has a token, a context, and guards what is written.
func ExampleElection_Campaign() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		primary := election.New(session, "primary")
		term, err := primary.Campaign(ctx, "starting")
		if err != nil {
			return err
		}
		defer func() { _ = term.Resign() }()
		if err := term.Proclaim(ctx, "10.0.0.7:5432"); err != nil {
			return err
		}
		leader, err := primary.Leader(ctx)
		if err != nil {
			return err
		}
		fmt.Println(leader.Owner, leader.Value, leader.Token == term.Token())
		// In etcd: it commits only while the term stands.
		_, err = term.Commit(ctx, clientv3.OpPut("schema-version", "12"))
		return err
	})
	// Output: scheduler-3 10.0.0.7:5432 true
}

// Observe yields who leads now, and then every change.
func ExampleElection_Observe() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		primary := election.New(session, "observed")
		var term *election.Term
		for leader, err := range primary.Observe(ctx) {
			switch {
			case err != nil:
				return err
			case leader.Vacant() && term == nil:
				fmt.Println("nobody leads")
				if term, err = primary.Campaign(ctx, "10.0.0.7:5432"); err != nil {
					return err
				}
			case leader.Vacant():
				fmt.Println("nobody leads again")
				return nil
			default:
				fmt.Println(leader.Owner, "leads at", leader.Value)
				if err := term.Resign(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	// Output:
	// nobody leads
	// scheduler-3 leads at 10.0.0.7:5432
	// nobody leads again
}

// Transfer asks the leader to step down in favour of a contender.
func ExampleElection_Transfer() {
	example(func(ctx context.Context, client *clientv3.Client, session *core.Session) error {
		primary := election.New(session, "moved")
		term, err := primary.Campaign(ctx, "here")
		if err != nil {
			return err
		}
		there, err := core.NewSession(ctx, client, core.WithOwner("scheduler-4"))
		if err != nil {
			return err
		}
		defer there.Close()
		won := make(chan error, 1)
		go func() {
			_, err := election.New(there, "moved").Campaign(ctx, "there")
			won <- err
		}()
		for cs, err := primary.Contenders(ctx); len(cs) < 2; cs, err = primary.Contenders(ctx) {
			if err != nil {
				return err
			}
		}
		stepped := make(chan error, 1)
		context.AfterFunc(term.Context(), func() { stepped <- term.Resign() })
		if err := primary.Transfer(ctx, "scheduler-4"); err != nil {
			return err
		}
		leader, err := primary.Leader(ctx)
		fmt.Println(leader.Owner, leader.Value)
		return errors.Join(err, <-stepped, <-won)
	})
	// Output: scheduler-4 there
}

// A leader that fails its own check steps down.
func ExampleWithHealth() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		full := errors.New("disk is read-only")
		checks := 0
		check := func(context.Context) error {
			if checks++; checks > 2 {
				return full
			}
			return nil
		}
		term, err := election.New(session, "checked", election.WithHealth(check, 250*time.Millisecond)).Campaign(ctx, "")
		if err != nil {
			return err
		}
		<-term.Context().Done()
		fmt.Println(errors.Is(context.Cause(term.Context()), full))
		return term.Resign()
	})
	// Output: true
}

// With several seats as many lead at a time.
func ExampleWithSeats() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		workers := election.New(session, "workers", election.WithSeats(2))
		first, err := workers.Campaign(ctx, "first")
		if err != nil {
			return err
		}
		second, err := workers.Campaign(ctx, "second")
		if err != nil {
			return err
		}
		leaders, err := workers.Leaders(ctx)
		for _, l := range leaders {
			fmt.Println(l.Value)
		}
		return errors.Join(err, first.Resign(), second.Resign())
	})
	// Output:
	// first
	// second
}

// A process that restarts within the TTL goes on with its term.
func ExampleElection_Resume() {
	example(func(ctx context.Context, client *clientv3.Client, _ *core.Session) error {
		before, err := core.NewSession(ctx, client)
		if err != nil {
			return err
		}
		term, err := election.New(before, "restarted").Campaign(ctx, "")
		if err != nil {
			return err
		}
		lease, token := before.Lease(), term.Token() // written to a file, say
		before.Orphan()

		after, err := core.NewSession(ctx, client, core.WithLease(lease))
		if err != nil {
			return err
		}
		defer after.Close()
		again, err := election.New(after, "restarted").Resume(ctx, token)
		if err != nil {
			return err
		}
		fmt.Println("the same term:", again.Token() == token)
		return again.Resign()
	})
	// Output: the same term: true
}

// Among candidates of one priority those of the first zone in the list lead first. A
// leader elsewhere is not interrupted for them.
func ExampleWithPreferredZones() {
	example(func(ctx context.Context, client *clientv3.Client, session *core.Session) error {
		in := func(zone string) *election.Election {
			return election.New(session, "near the data", election.WithZone(zone), election.WithPreferredZones("eu-1", "eu-2"))
		}
		term, err := in("us-1").Campaign(ctx, "")
		if err != nil {
			return err
		}
		terms := make(chan *election.Term, 2)
		for n, zone := range []string{"eu-2", "eu-1"} { // in this order
			go func() {
				if next, err := in(zone).Campaign(ctx, ""); err == nil {
					terms <- next
				}
			}()
			for cs, err := in("").Contenders(ctx); len(cs) < n+2; cs, err = in("").Contenders(ctx) {
				if err != nil {
					return err
				}
			}
		}
		for range 2 {
			if err := term.Resign(); err != nil {
				return err
			}
			term = <-terms
			leader, err := in("").Leader(ctx)
			if err != nil {
				return err
			}
			fmt.Println(leader.Zone)
		}
		return term.Resign()
	})
	// Output:
	// eu-1
	// eu-2
}

// An operator takes the leadership away. The leader learns by whom and why, and has
// its grace to stop.
func ExampleElection_ForceResign() {
	example(func(ctx context.Context, _ *clientv3.Client, session *core.Session) error {
		primary := election.New(session, "forced")
		term, err := primary.Campaign(ctx, "")
		if err != nil {
			return err
		}
		stopped := make(chan error, 1)
		context.AfterFunc(term.Context(), func() { stopped <- term.Resign() })
		if _, err := primary.ForceResign(ctx, "the disk is being replaced"); err != nil {
			return err
		}
		fmt.Println(context.Cause(term.Context()))
		fmt.Println(errors.Is(<-stopped, core.ErrRevoked))
		return nil
	})
	// Output:
	// election "forced": leadership lost: revoked by scheduler-3: the disk is being replaced
	// true
}
