package edge_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// An exchange is a request and what must come of it.
type exchange struct {
	name   string
	method string // default POST
	path   string // default the method Echo
	header map[string]string
	body   string

	status  int
	is      string   // the whole answer, if not empty
	has     []string // what the answer contains
	code    string   // of an error
	message string   // an error's, whole
	check   func(t *testing.T, h http.Header)
}

// bomb is eight times the limit, and small in gzip.
func bomb() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	chunk := bytes.Repeat([]byte(" "), 1<<20)
	for range 8 {
		_, _ = z.Write(chunk)
	}
	_ = z.Close()
	return b.String()
}

func TestJSON(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		s := start(t, serverOptions{tls: secure})
		for _, over := range []transport{http1, http2} {
			c := s.client(t, over)
			for _, x := range slices.Concat(contentTypes(), bodies(), calls(), metadatas(), streams()) {
				name := string(over) + "/" + x.name
				if secure {
					name = "tls/" + name
				}
				t.Run(name, func(t *testing.T) { x.run(t, c, s.url()) })
			}
		}
	}
}

func (x exchange) run(t *testing.T, c *http.Client, url string) {
	t.Helper()
	method, path := x.method, x.path
	if method == "" {
		method = http.MethodPost
	}
	if path == "" {
		path = echoPath
	}
	r, err := http.NewRequestWithContext(within(t), method, url+path, strings.NewReader(x.body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range x.header {
		r.Header.Set(k, v)
		if k == "Host" {
			r.Host = v
		}
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != x.status {
		t.Fatalf("status %d, want %d: %s", answer.StatusCode, x.status, got)
	}
	if x.is != "" && string(got) != x.is {
		t.Errorf("got  %s\nwant %s", got, x.is)
	}
	for _, part := range x.has {
		if !strings.Contains(string(got), part) {
			t.Errorf("%q is not in %s", part, got)
		}
	}
	if x.code != "" {
		x.checkError(t, got)
	}
	if x.check != nil {
		x.check(t, answer.Header)
	}
}

func (x exchange) checkError(t *testing.T, body []byte) {
	t.Helper()
	var e struct {
		Code    string
		Message string
		Details []struct {
			Type  string
			Debug struct{ Reason, Domain string }
		}
	}
	if err := json.Unmarshal(body, &e); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if e.Code != x.code || x.message != "" && e.Message != x.message {
		t.Errorf("got  %s %s\nwant %s %s", e.Code, e.Message, x.code, x.message)
	}
	reason, _, _ := strings.Cut(e.Message, ": ")
	if len(e.Details) != 1 || e.Details[0].Type != "google.rpc.ErrorInfo" || e.Details[0].Debug.Reason != reason || e.Details[0].Debug.Domain != "conclave" {
		t.Errorf("details are %+v, want the reason %q of the message", e.Details, reason)
	}
}
