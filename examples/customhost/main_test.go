package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/host"
)

// The recipe of one's own is served as any other: nobody gets a number twice.
func TestCounter(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h, err := host.New(host.Config{
		DataDir: t.TempDir(), API: host.API{Listen: "127.0.0.1:0"},
		Etcd: host.Etcd{ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", Fast: true, NoFsync: true},
	}, host.WithRecipe(Counter{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for body, want := range map[string]string{
		`{"name":"a"}`: `{"value":"1"}`, `{"name":"b/c"}`: `{"value":"1"}`, `{"name":".."}`: "invalid_name: name: ",
	} {
		if got := next(ctx, t, h.API(), body); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	const callers = 8
	seen := make(chan string, callers)
	for range callers {
		go func() { seen <- next(ctx, t, h.API(), `{"name":"a"}`) }()
	}
	got := make(map[string]bool)
	for range callers {
		got[<-seen] = true
	}
	if len(got) != callers {
		t.Errorf("%d callers got %d numbers: %v", callers, len(got), got)
	}
}

func next(ctx context.Context, t *testing.T, api, body string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, api+"/counter.v1.CounterService/Next", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return ""
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
