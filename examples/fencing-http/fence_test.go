package fencing_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"example.com/conclave-examples/fencing-http"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// A document is what the service keeps: the last body that was put.
type document struct {
	mu   sync.Mutex
	text string
}

func (d *document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == http.MethodPut {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		d.text = string(body)
	}
	_, _ = io.WriteString(w, d.text)
}

type service struct {
	url    string
	client *http.Client
}

func newService(t *testing.T) service {
	t.Helper()
	var fence fencing.Fence
	server := httptest.NewServer(fence.Protect(new(document)))
	t.Cleanup(server.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	return service{server.URL, &http.Client{Transport: fencing.Transport{Base: base}}}
}

// send returns the status and the body of the answer.
func (s service) send(ctx context.Context, t *testing.T, method, path, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		r.Header.Set(fencing.Header, h)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func newSession(t *testing.T) *core.Session {
	t.Helper()
	s, err := core.NewSession(t.Context(), etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestStaleClientIsRefused(t *testing.T) {
	s, first, second := newService(t), newSession(t), newSession(t)
	held, err := lock.NewMutex(first, "report").Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The first client is paused after its last look at the context.
	paused := context.WithoutCancel(held.Context())
	if code, _ := s.send(paused, t, http.MethodPut, "/report", "first"); code != http.StatusOK {
		t.Fatalf("the owner's write: %d", code)
	}
	coretest.ExpireLease(t, etcd.Client(t), first.Lease())
	err = lock.NewMutex(second, "report").Do(t.Context(), func(ctx context.Context) error {
		if code, _ := s.send(ctx, t, http.MethodPut, "/report", "second"); code != http.StatusOK {
			t.Errorf("the next owner's write: %d", code)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, answer := s.send(paused, t, http.MethodPut, "/report", "late"); code != http.StatusConflict {
		t.Errorf("the stale write: %d %s", code, answer)
	}
	if _, text := s.send(t.Context(), t, http.MethodGet, "/report", ""); text != "second" {
		t.Errorf("the report is %q", text)
	}
	// Tokens are compared per resource.
	if code, _ := s.send(paused, t, http.MethodPut, "/other", "fine"); code != http.StatusOK {
		t.Errorf("on another path: %d", code)
	}
}

func TestRequestsWithoutAToken(t *testing.T) {
	s := newService(t)
	if code, _ := s.send(t.Context(), t, http.MethodPut, "/report", "x"); code != http.StatusPreconditionRequired {
		t.Errorf("no token: %d", code)
	}
	if code, _ := s.send(t.Context(), t, http.MethodPut, "/report", "x", "yesterday"); code != http.StatusBadRequest {
		t.Errorf("no number: %d", code)
	}
	if _, text := s.send(t.Context(), t, http.MethodGet, "/report", ""); text != "" {
		t.Errorf("something was written: %q", text)
	}
}
