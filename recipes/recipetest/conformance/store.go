package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// A store watches every key of the suite's etcd.
type store struct {
	client *clientv3.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	owned   map[string]int64    // the lease of each key that is there and has one
	touched map[string]struct{} // every key that was ever written
	changed chan struct{}       // closed and replaced with every event
	err     error               // why the watch ended
}

func watchStore(c *clientv3.Client) *store {
	ctx, cancel := context.WithCancel(context.Background())
	s := &store{client: c, cancel: cancel, done: make(chan struct{}), owned: map[string]int64{}, touched: map[string]struct{}{}, changed: make(chan struct{})}
	events := c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(1))
	go func() {
		defer close(s.done)
		for resp := range events {
			s.apply(resp)
		}
	}()
	return s
}

func (s *store) apply(resp clientv3.WatchResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := resp.Err(); err != nil {
		s.err = err
	}
	for _, e := range resp.Events {
		key := string(e.Kv.Key)
		s.touched[key] = struct{}{}
		if delete(s.owned, key); e.Kv.Lease != 0 && e.Type == clientv3.EventTypePut {
			s.owned[key] = e.Kv.Lease
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// close ends the watch.
func (s *store) close() {
	s.cancel()
	<-s.done
}

// attached waits until a key of the recipe is attached to a lease.
func (s *store) attached(ctx context.Context, lease clientv3.LeaseID) error {
	for {
		s.mu.Lock()
		found := false
		for key, on := range s.owned {
			found = found || on == int64(lease) && !hosts(key)
		}
		changed, err := s.changed, s.err
		s.mu.Unlock()
		if err != nil {
			return fmt.Errorf("the suite's own watch ended: %w", err)
		}
		if found {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("nothing is attached to the session's lease: %w", ctx.Err())
		}
	}
}

// keys returns what a lease has of the recipe, by an own read: each key with the
// revision that made it.
func (s *store) keys(ctx context.Context, lease clientv3.LeaseID) (map[string]int64, error) {
	resp, err := s.client.Get(ctx, "\x00", clientv3.WithFromKey()) // a range of keys only does not tell their leases
	if err != nil {
		return nil, err
	}
	keys := map[string]int64{}
	for _, kv := range resp.Kvs {
		if kv.Lease == int64(lease) && !hosts(string(kv.Key)) {
			keys[string(kv.Key)] = kv.CreateRevision
		}
	}
	return keys, nil
}

// outside returns a key that was touched and is neither the recipe's nor a host's.
func (s *store) outside(ctx context.Context, instance string) (string, error) {
	// A write of now tells, when it has come, that all events before it have.
	mark := fmt.Sprintf("%sconformance/%d", hostKeys, time.Now().UnixNano())
	if _, err := s.client.Put(ctx, mark, ""); err != nil {
		return "", err
	}
	for {
		s.mu.Lock()
		_, complete := s.touched[mark]
		found, changed := "", s.changed
		for key := range s.touched {
			if !hosts(key) && !ofRecipe(key, instance) {
				found = key
			}
		}
		s.mu.Unlock()
		if found != "" || complete {
			return found, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// hosts reports whether a key is a host's own.
func hosts(key string) bool { return strings.HasPrefix(key, hostKeys) }

const hostKeys = keyspace.Root + "_host/"

// ofRecipe reports whether a key is below /conclave/<namespace>/<instance>/.
func ofRecipe(key, instance string) bool {
	rest, ok := strings.CutPrefix(key, keyspace.Root)
	parts := strings.SplitN(rest, "/", 3)
	return ok && len(parts) == 3 && parts[1] == instance
}
