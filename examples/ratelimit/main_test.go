package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait; a test that reaches it fails.
const patience = time.Minute

// started serves on a free port until the test ends, and returns the URL.
func started(t *testing.T, client *clientv3.Client) (*config.Variable[Limits], string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	limits, err := open(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(serving, l, newService(limits)) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections() // Shutdown would wait for those that were never used
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = limits.Close()
	})
	return limits, "http://" + l.Addr().String()
}

// get makes a request; every one must be answered, with 200 or 429.
func get(url string) (status int, revision int64, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, 0, err
	}
	revision, err = strconv.ParseInt(resp.Header.Get("Config-Revision"), 10, 64)
	if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return resp.StatusCode, revision, err
}

// The limit changes again and again, to nonsense too, while clients ask without a
// pause: every request is answered, by limits that were published and good.
func TestNoRequestIsDroppedForAChange(t *testing.T) {
	limits, url := started(t, etcd.Client(t))
	good := map[int64]bool{limits.Latest().Revision: true}
	stop, results := make(chan struct{}), make(chan int64, 1<<16)
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, revision, err := get(url)
				if err != nil {
					t.Errorf("a request was dropped: %v", err)
					return
				}
				select {
				case results <- revision:
				default: // enough of them
				}
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tool := config.NewStore(etcd.Client(t))
	last := int64(0)
	for i := range 30 {
		if i%3 == 2 {
			if _, err := tool.Publish(ctx, []config.Change{{Key: limits.Key(), Value: []byte(`{"rate":-1}`)}}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		rev, err := limits.Set(ctx, Limits{Rate: float64(1 + i), Burst: float64(1 + i)})
		if err != nil {
			t.Fatal(err)
		}
		good[rev], last = true, rev
		// The service follows: somebody is answered by the new limits.
		for {
			_, revision, err := get(url)
			if err != nil || ctx.Err() != nil {
				t.Fatal(err, ctx.Err())
			}
			if revision == rev {
				break
			}
		}
	}
	close(stop)
	clients.Wait()
	close(results)
	n := 0
	for revision := range results {
		if n++; !good[revision] {
			t.Fatalf("a request was judged by revision %d, which is not a good one", revision)
		}
	}
	if n == 0 {
		t.Error("no request was made")
	}
	s := limits.Latest()
	if s.Revision != last {
		t.Errorf("the last good limits are of revision %d, not %d", s.Revision, last)
	}
}

func TestTheLimitHolds(t *testing.T) {
	limits, url := started(t, etcd.Client(t))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rev, err := limits.Set(ctx, Limits{Rate: 1, Burst: 3})
	if err != nil {
		t.Fatal(err)
	}
	for s, err := range limits.Watch(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Revision == rev {
			break
		}
	}
	began, answered := time.Now(), 0
	for range 40 {
		status, _, err := get(url)
		if err != nil {
			t.Fatal(err)
		}
		if status == http.StatusOK {
			answered++
		}
	}
	// However slow the machine is, no more than the bucket held and was filled with.
	if most := 3 + int(time.Since(began).Seconds()) + 1; answered < 1 || answered > most {
		t.Errorf("%d requests were answered, at most %d are allowed", answered, most)
	}
}
