package page_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func services() []page.Service {
	return []page.Service{
		{Recipe: "host", Version: "0.1.0", Summary: "Sessions, and the host itself", State: "ready", Descriptor: sessionv1.File_conclave_session_v1_session_proto.Services().Get(0)},
		{Recipe: "lock", Version: "0.1.0", Summary: "Mutual exclusion with fencing tokens", State: "degraded", Descriptor: lockv1.File_conclave_lock_v1_lock_proto.Services().Get(0)},
		{Recipe: "host", Descriptor: hostv1.File_conclave_host_v1_host_proto.Services().Get(0)},
	}
}

// serve starts a host that has the page and answers a little.
func serve(tb testing.TB, services func() []page.Service) *httptest.Server {
	tb.Helper()
	h, err := page.New(page.Options{Name: "host-3", Version: "0.1.0", Services: services})
	if err != nil {
		tb.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(page.Path, h)
	mux.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /conclave.session.v1.SessionService/Open", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "application/json" || string(body) != `{"ttl":"15s","owner":"me"}` {
			http.Error(w, `{"code":"invalid_argument","message":"invalid_request: `+strings.ReplaceAll(string(body), `"`, "")+`"}`, http.StatusBadRequest)
			return
		}
		_, _ = fmt.Fprint(w, `{"sessionId":"s-17","ttl":"15s"}`)
	})
	mux.HandleFunc("POST /conclave.lock.v1.LockService/Why", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			http.Error(w, `{"code":"unauthenticated","message":"unauthenticated: this host asks who calls"}`, http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprint(w, `{}`)
	})
	mux.HandleFunc("POST /conclave.lock.v1.LockService/Watch", func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "{\"name\":\"ledger <b>%d</b>\"}\n", i)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	s := httptest.NewServer(mux)
	tb.Cleanup(s.Close)
	return s
}

// A got is an answer that has been read.
type got struct {
	StatusCode int
	Status     string
	Header     http.Header
}

func get(tb testing.TB, method, url string, header ...string) (got, string) {
	tb.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, http.NoBody)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := c.Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return got{answer.StatusCode, answer.Status, answer.Header}, string(body)
}

func TestPage(t *testing.T) {
	t.Parallel()
	s := serve(t, services)
	answer, body := get(t, http.MethodGet, s.URL+page.Path)
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%s %v", answer.Status, answer.Header)
	}
	for _, part := range []string{
		"host-3", "LockService", "conclave.lock.v1", "Mutual exclusion with fencing tokens", "degraded",
		`data-path="/conclave.lock.v1.LockService/Acquire"`, `data-permission="write"`, `data-stream="server"`, `data-stream="client"`,
		`name="sessionId" data-input="text" placeholder="" spellcheck="false" autocapitalize="off" data-session`,
		`placeholder="15s"`, `data-input="bool"`,
	} {
		if !strings.Contains(body, part) {
			t.Errorf("%q is not on the page", part)
		}
	}
	// Recipes stand where they came first, with all their services.
	if first, second := strings.Index(body, "HostService"), strings.Index(body, "LockService"); first > second {
		t.Error("the services of the host are not together")
	}
	for _, inline := range []string{"<style", "style=", "onclick", "<script>", "javascript:", "http://", "https://"} {
		if strings.Contains(body, inline) {
			t.Errorf("the page has %q, which its policy forbids, or which leads elsewhere", inline)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t, services)
	for _, name := range []string{"", "app.js", "style.css", "icon.svg"} {
		answer, body := get(t, http.MethodGet, s.URL+page.Path+name)
		h := answer.Header
		if answer.StatusCode != http.StatusOK || body == "" {
			t.Errorf("%s: %s", name, answer.Status)
		}
		if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'self'; ") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", name, h)
		}
		if again, _ := get(t, http.MethodGet, s.URL+page.Path+name, "If-None-Match", h.Get("Etag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: the same again is %s", name, again.Status)
		}
	}
	for _, name := range []string{"page.html", "../page.go", "assets/app.js", "nothing"} {
		if answer, _ := get(t, http.MethodGet, s.URL+page.Path+name); answer.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", name, answer.Status)
		}
	}
	if answer, _ := get(t, http.MethodPost, s.URL+page.Path); answer.StatusCode != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %s", answer.Status)
	}
}

func TestEmpty(t *testing.T) {
	t.Parallel()
	s := serve(t, func() []page.Service { return nil })
	if _, body := get(t, http.MethodGet, s.URL+page.Path); !strings.Contains(body, "serves no recipe yet") {
		t.Error("the page does not say that there is nothing")
	}
	if _, err := page.New(page.Options{}); err == nil {
		t.Error("a page of nothing was made")
	}
}

// TestHostile has a plugin whose descriptors try to be part of the page.
func TestHostile(t *testing.T) {
	t.Parallel()
	const evil = `</summary><script>alert(1)</script>`
	file := protodesc.ToFileDescriptorProto(sessionv1.File_conclave_session_v1_session_proto)
	file.SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{
		{Path: []int32{6, 0}, Span: []int32{1, 1, 1}, LeadingComments: new(evil)},
	}}
	fd, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, func() []page.Service {
		return []page.Service{{Recipe: evil, Version: evil, Summary: evil, State: evil, Descriptor: fd.Services().Get(0)}}
	})
	_, body := get(t, http.MethodGet, s.URL+page.Path)
	if strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") {
		t.Error("a descriptor's text is markup on the page")
	}
}
