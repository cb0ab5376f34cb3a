package edge_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host/edge"
)

const openPath = "/conclave.session.v1.SessionService/Open"

// opens answers calls of Open, as a recipe that does nothing would.
func opens(_ any, s grpc.ServerStream) error {
	var in sessionv1.OpenRequest
	if err := s.RecvMsg(&in); err != nil {
		return err
	}
	return s.SendMsg(&sessionv1.OpenResponse{SessionId: in.GetOwner(), Ttl: in.GetTtl()})
}

// compare times two ways in turn, so that both see the same machine, and reports
// their medians and the ratio.
func compare(b *testing.B, callers int, bare, ours func() error) {
	b.Helper()
	type sample struct{ bare, ours []time.Duration }
	samples := make([]sample, callers)
	var all sync.WaitGroup
	b.ResetTimer()
	for i := range callers {
		all.Go(func() {
			s := &samples[i]
			for range max(1, b.N/callers) {
				for _, way := range []struct {
					call  func() error
					times *[]time.Duration
				}{{bare, &s.bare}, {ours, &s.ours}} {
					start := time.Now()
					if err := way.call(); err != nil {
						b.Error(err)
						return
					}
					*way.times = append(*way.times, time.Since(start))
				}
			}
		})
	}
	all.Wait()
	var whole sample
	for _, s := range samples {
		whole.bare, whole.ours = append(whole.bare, s.bare...), append(whole.ours, s.ours...)
	}
	if len(whole.ours) == 0 {
		return
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Nanoseconds())
	}
	b.ReportMetric(median(whole.bare), "bare-ns")
	b.ReportMetric(median(whole.ours), "ours-ns")
	b.ReportMetric(median(whole.ours)/median(whole.bare), "ratio")
}

// BenchmarkNative sets a unary call through the splitter beside one to a server
// of grpc-go alone, with the same handler.
func BenchmarkNative(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	alone := grpc.NewServer(grpc.UnknownServiceHandler(opens))
	var serving sync.WaitGroup
	serving.Go(func() { _ = alone.Serve(l) })
	defer serving.Wait()
	defer alone.Stop()
	direct, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer direct.Close()
	s := start(b, serverOptions{edge: edge.Options{Handler: opens}})
	split := s.dial(b)
	call := func(c *grpc.ClientConn) func() error {
		in := &sessionv1.OpenRequest{Owner: "nightly", Ttl: durationpb.New(15 * time.Second)}
		return func() error { return c.Invoke(b.Context(), openPath, in, &sessionv1.OpenResponse{}) }
	}
	b.Run("callers=1", func(b *testing.B) { compare(b, 1, call(direct), call(split)) })
	b.Run("callers=64", func(b *testing.B) { compare(b, 64, call(direct), call(split)) })
}

// BenchmarkJSON sets a call in JSON beside a handler that was written for this
// one method, on the same kind of server.
func BenchmarkJSON(b *testing.B) {
	s := start(b, serverOptions{edge: edge.Options{Handler: opens}})
	if err := s.edge.Set(sessionv1.File_conclave_session_v1_session_proto.Services().Get(0)); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	alone := newServer(http.HandlerFunc(byHand))
	var serving sync.WaitGroup
	serving.Go(func() { _ = alone.Serve(l) })
	defer serving.Wait()
	defer alone.Close()
	call := func(c *http.Client, url string) func() error {
		return func() error {
			r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+openPath, bytes.NewReader([]byte(`{"ttl":"15s","owner":"nightly"}`)))
			if err != nil {
				return err
			}
			r.Header.Set("Content-Type", "application/json")
			answer, err := c.Do(r)
			if err != nil {
				return err
			}
			defer answer.Body.Close()
			_, err = io.Copy(io.Discard, answer.Body)
			return err
		}
	}
	client := func() *http.Client {
		t := &http.Transport{MaxIdleConnsPerHost: 64}
		b.Cleanup(t.CloseIdleConnections)
		return &http.Client{Transport: t}
	}
	bare, ours := call(client(), "http://"+l.Addr().String()), call(client(), s.url())
	b.Run("callers=1", func(b *testing.B) { compare(b, 1, bare, ours) })
	b.Run("callers=64", func(b *testing.B) { compare(b, 64, bare, ours) })
}

func byHand(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	var in sessionv1.OpenRequest
	if err == nil {
		err = protojson.Unmarshal(body, &in)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(&sessionv1.OpenResponse{SessionId: in.GetOwner(), Ttl: in.GetTtl()})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out)
}

// BenchmarkSet replaces a service.
func BenchmarkSet(b *testing.B) {
	e, err := edge.New(edge.Options{Handler: opens})
	if err != nil {
		b.Fatal(err)
	}
	sd := sessionv1.File_conclave_session_v1_session_proto.Services().Get(0)
	b.ReportAllocs()
	for b.Loop() {
		if err := e.Set(sd); err != nil {
			b.Fatal(err)
		}
	}
}
