package edge_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/host/edge"
)

// FuzzBody sends anything as a request: the answer is the echo, or an error that
// is JSON and not much longer than an error should be.
func FuzzBody(f *testing.F) {
	for _, x := range bodies() {
		if len(x.body) < 1000 {
			f.Add(x.body)
		}
	}
	f.Add(strings.Repeat(`[`, 20000))
	f.Add(strings.Repeat(`{"items":[`, 2000))
	f.Add(`{"` + strings.Repeat("n", 5000) + `":1}`)
	f.Add(`{"byKey":{"` + strings.Repeat("k", 5000) + `":{"wait":"x"}}}`)
	f.Add("{\"ttl\":\n\n\t\"ü\\u0000")
	s := newEcho(f)
	e, err := edge.New(edge.Options{Handler: s.handle})
	if err != nil {
		f.Fatal(err)
	}
	if err := e.Set(s.sd); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{echoPath, countPath} {
			if path == countPath && strings.Contains(body, "count") {
				continue // it would count as far as it is told
			}
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code == http.StatusOK {
				continue
			}
			var answer struct{ Code, Message string }
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Code == "" || len(answer.Message) > 2000 {
				t.Fatalf("%d: %.300q, %v", w.Code, w.Body.String(), err)
			}
			if w.Code >= 500 && !strings.HasPrefix(answer.Message, "asked_to: ") {
				t.Fatalf("%d: %s", w.Code, answer.Message)
			}
		}
	})
}
