package edge

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// What belongs to the connection or to the transport, and is no metadata.
var notMetadata = map[string]bool{
	"Accept-Encoding": true, "Connection": true, "Connect-Protocol-Version": true, "Connect-Timeout-Ms": true,
	"Content-Encoding": true, "Content-Length": true, "Expect": true, "Grpc-Accept-Encoding": true, "Grpc-Encoding": true,
	"Grpc-Message": true, "Grpc-Message-Type": true, "Grpc-Status": true, "Grpc-Timeout": true, "Host": true,
	"Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// incoming returns the metadata of a request. Headers that gRPC cannot carry are
// left out: they are a browser's, or nobody's.
func incoming(r *http.Request) (metadata.MD, error) {
	md := make(metadata.MD, len(r.Header)+1)
	for name, values := range r.Header {
		key := strings.ToLower(name)
		if notMetadata[name] || !isKey(key) {
			continue
		}
		if strings.HasSuffix(key, "-bin") {
			for _, v := range values {
				raw, err := decodeBinary(v)
				if err != nil {
					return nil, invalid("invalid_request", "header %s: is not base64", key).grpc()
				}
				md[key] = append(md[key], raw...)
			}
			continue
		}
		for _, v := range values {
			if isText(v) {
				md[key] = append(md[key], v)
			}
		}
	}
	md[":authority"] = []string{r.Host}
	return md, nil
}

// decodeBinary decodes the values of one header, which may be several with
// commas between them, padded or not.
func decodeBinary(header string) ([]string, error) {
	var out []string
	for v := range strings.SplitSeq(header, ",") {
		raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(strings.TrimSpace(v), "="))
		if err != nil {
			return nil, err
		}
		out = append(out, string(raw))
	}
	return out, nil
}

// isKey reports whether gRPC takes key as a name of metadata.
func isKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return key != ""
}

// isText reports whether gRPC takes v as a value of metadata.
func isText(v string) bool {
	for i := range len(v) {
		if v[i] < ' ' || v[i] > '~' {
			return false
		}
	}
	return true
}

// What a service's metadata must not become in an answer that a browser may
// read: names that mean something to it, or to net/http.
var (
	notHeaders = map[string]bool{
		"alt-svc": true, "clear-site-data": true, "connection": true, "date": true, "keep-alive": true, "link": true,
		"location": true, "proxy-connection": true, "refresh": true, "server": true, "service-worker-allowed": true,
		"set-cookie": true, "set-cookie2": true, "sourcemap": true, "strict-transport-security": true, "te": true,
		"trailer": true, "transfer-encoding": true, "upgrade": true, "www-authenticate": true, "x-frame-options": true,
		"x-content-type-options": true, "referrer-policy": true, "permissions-policy": true,
	}
	notHeaderPrefixes = []string{":", "grpc-", "connect-", "content-", "access-control-", "cross-origin-", "sec-", "proxy-auth", "trailer-"}
)

func isHeader(key string) bool {
	if notHeaders[key] || !isKey(key) {
		return false
	}
	for _, p := range notHeaderPrefixes {
		if strings.HasPrefix(key, p) {
			return false
		}
	}
	return true
}

// putMetadata writes metadata as headers whose names begin with prefix.
func putMetadata(h http.Header, prefix string, md metadata.MD) {
	for key, values := range md {
		if key = strings.ToLower(key); !isHeader(key) {
			continue
		}
		name := prefix + http.CanonicalHeaderKey(key)
		for _, v := range values {
			switch {
			case strings.HasSuffix(key, "-bin"):
				h[name] = append(h[name], base64.RawStdEncoding.EncodeToString([]byte(v)))
			case isText(v):
				h[name] = append(h[name], v)
			}
		}
	}
}

// putStatus writes a status as trailers.
func putStatus(h http.Header, st *status.Status) {
	h[http.TrailerPrefix+"Grpc-Status"] = []string{strconv.Itoa(int(st.Code()))}
	if st.Message() != "" {
		h[http.TrailerPrefix+"Grpc-Message"] = []string{percentEncode(st.Message())}
	}
	if len(st.Proto().GetDetails()) == 0 {
		return
	}
	if bin, err := proto.Marshal(st.Proto()); err == nil {
		h[http.TrailerPrefix+"Grpc-Status-Details-Bin"] = []string{base64.RawStdEncoding.EncodeToString(bin)}
	}
}

// percentEncode writes a message as gRPC's trailer has it.
func percentEncode(s string) string {
	if isText(s) && !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func statusOf(err error) *status.Status {
	if st, ok := status.FromError(err); ok {
		return st
	}
	return status.FromContextError(err) // UNKNOWN unless it is a context's
}

func statusOfConnect(err *connect.Error) error {
	st := status.New(codes.Code(err.Code()), err.Message()).Proto()
	for _, d := range err.Details() {
		st.Details = append(st.Details, &anypb.Any{TypeUrl: "type.googleapis.com/" + d.Type(), Value: d.Bytes()})
	}
	return status.FromProto(st).Err()
}

// callContext returns what a handler finds in its context: as with gRPC's own
// server the metadata, the peer and the transport's stream.
func callContext(r *http.Request, md metadata.MD, c *call) context.Context {
	p := &peer.Peer{}
	p.LocalAddr, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	p.Addr = remoteAddr(r, p.LocalAddr)
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{
			State:          *r.TLS,
			CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		}
	}
	ctx := peer.NewContext(r.Context(), p)
	ctx = metadata.NewIncomingContext(ctx, md)
	return grpc.NewContextWithServerTransportStream(ctx, transport{c})
}

// remoteAddr returns the peer's address in the form that gRPC's own server has
// it in. What is trusted because it comes by a socket does so by the listener's
// network: the peer's own address may be missing, or be chosen by the peer.
func remoteAddr(r *http.Request, local net.Addr) net.Addr {
	if local != nil && local.Network() == "unix" {
		return &net.UnixAddr{Name: r.RemoteAddr, Net: "unix"}
	}
	ap, _ := netip.ParseAddrPort(r.RemoteAddr) // the zero address is nobody's
	return net.TCPAddrFromAddrPort(ap)
}

// withTimeout bounds a call by gRPC's header. Without one the context is the
// request's own, which ends with the call as it is.
func withTimeout(ctx context.Context, header string) (context.Context, context.CancelFunc) {
	if d, ok := parseTimeout(header); ok {
		return context.WithTimeout(ctx, d)
	}
	return ctx, func() {}
}

// maxTimeout is longer than anybody waits, and short enough to be counted.
const maxTimeout = 100 * 365 * 24 * time.Hour

// parseTimeout reads gRPC's form of a timeout: up to eight digits and a unit.
func parseTimeout(s string) (time.Duration, bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	unit := unitOf(s[len(s)-1])
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if unit == 0 || err != nil {
		return 0, false
	}
	if time.Duration(n) > maxTimeout/unit {
		return maxTimeout, true
	}
	return time.Duration(n) * unit, true
}

// unitOf returns the unit that a timeout ends with, 0 if it is none.
func unitOf(c byte) time.Duration {
	switch c {
	case 'n':
		return time.Nanosecond
	case 'u':
		return time.Microsecond
	case 'm':
		return time.Millisecond
	case 'S':
		return time.Second
	case 'M':
		return time.Minute
	case 'H':
		return time.Hour
	}
	return 0
}
