package config_test

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/config"
)

// example gives an example a client of its own, and prints why it failed.
func example(run func(ctx context.Context, client *clientv3.Client) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := func() (err error) {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, client.Close()) }()
		return run(ctx, client)
	}()
	if err != nil {
		fmt.Println(err)
	}
}

// Limits is a program's configuration.
type Limits struct {
	Rate  int `json:"rate"`
	Burst int `json:"burst"`
}

func validate(l Limits) error {
	if l.Rate < 1 || l.Burst < l.Rate {
		return errors.New("rate and burst: at least 1, and burst not less than rate")
	}
	return nil
}

// A program reads its configuration where it needs it, at no cost, and never
// meets a value that it cannot use.
func Example() {
	example(func(ctx context.Context, client *clientv3.Client) error {
		// snippet:config
		limits, err := config.Open[Limits](ctx, client, "api/limits",
			config.WithDefault(Limits{Rate: 100, Burst: 200}),
			config.WithValidate(validate),
		)
		if err != nil {
			return err
		}
		defer limits.Close()

		fmt.Println("rate:", limits.Latest().Value.Rate)
		// end
		return nil
	})
	// Output: rate: 100
}

// Watch follows the configuration: the present value first, then what replaces
// it. A value that does not pass the check is reported beside the last good one.
func ExampleVariable_Watch() {
	example(func(ctx context.Context, client *clientv3.Client) error {
		limits, err := config.Open[Limits](ctx, client, "example/watch", config.WithDefault(Limits{Rate: 1, Burst: 1}), config.WithValidate(validate))
		if err != nil {
			return err
		}
		defer limits.Close()
		tool := config.NewStore(client)
		for s, err := range limits.Watch(ctx) {
			switch {
			case err != nil:
				return err
			case s.Rejected != nil:
				fmt.Println("still", s.Value, "since:", s.Rejected)
				return nil
			case s.Revision == 0:
				fmt.Println("default", s.Value)
				_, err = limits.Set(ctx, Limits{Rate: 5, Burst: 9}, config.Message("more"))
			default:
				fmt.Println(s.Value, s.Message)
				_, err = tool.Publish(ctx, []config.Change{{Key: "example/watch", Value: []byte(`{"rate":-5}`)}})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	// Output:
	// default {1 1}
	// {5 9} more
	// still {5 9} since: rejected: rate and burst: at least 1, and burst not less than rate
}

// CompareAndSet changes what its caller has seen, and nothing else.
func ExampleVariable_CompareAndSet() {
	example(func(ctx context.Context, client *clientv3.Client) error {
		limits, err := config.Open[Limits](ctx, client, "example/compare", config.WithDefault(Limits{Rate: 1, Burst: 1}))
		if err != nil {
			return err
		}
		defer limits.Close()
		seen := limits.Latest()
		if _, err := limits.CompareAndSet(ctx, seen.Revision, Limits{Rate: 2, Burst: 2}); err != nil {
			return err
		}
		_, err = limits.CompareAndSet(ctx, seen.Revision, Limits{Rate: 3, Burst: 3})
		fmt.Println(errors.Is(err, config.ErrConflict))
		return nil
	})
	// Output: true
}

// Publish releases several keys together: whoever reads them at one revision
// sees all of the release or nothing.
func ExampleStore_Publish() {
	example(func(ctx context.Context, client *clientv3.Client) error {
		store := config.NewStore(client, config.WithAuthor("release-train"))
		rev, err := store.Publish(ctx, []config.Change{
			{Key: "shop/limits", Value: []byte(`{"rate":50}`), Codec: "json"},
			{Key: "shop/banner", Value: []byte("Sale!"), Codec: "text"},
			{Key: "shop/prices", Value: []byte(`{"apple":3}`), Codec: "json"},
		}, config.Message("summer sale"))
		if err != nil {
			return err
		}
		for v, err := range store.List(ctx, "shop/", "") {
			if err != nil {
				return err
			}
			fmt.Println(v.Key, v.Revision == rev, v.Message)
		}
		return nil
	})
	// Output:
	// shop/banner true summer sale
	// shop/limits true summer sale
	// shop/prices true summer sale
}

// Rollback publishes an old value as a new version.
func ExampleVariable_Rollback() {
	example(func(ctx context.Context, client *clientv3.Client) error {
		limits, err := config.Open[Limits](ctx, client, "example/rollback", config.WithDefault(Limits{Rate: 1, Burst: 1}))
		if err != nil {
			return err
		}
		defer limits.Close()
		good, err := limits.Set(ctx, Limits{Rate: 5, Burst: 9}, config.Message("tried for a week"))
		if err != nil {
			return err
		}
		if _, err := limits.Set(ctx, Limits{Rate: 900, Burst: 900}, config.Message("faster")); err != nil {
			return err
		}
		if _, err := limits.Rollback(ctx, good, config.Message("too fast")); err != nil {
			return err
		}
		for s, err := range limits.History(ctx) {
			if err != nil {
				return err
			}
			fmt.Println(s.Number, s.Value, s.Message)
		}
		return nil
	})
	// Output:
	// 3 {5 9} too fast
	// 2 {900 900} faster
	// 1 {5 9} tried for a week
}
