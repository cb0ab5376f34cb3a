package edge

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
)

// A problem is an answer of the edge's own, to a request that never became a
// call.
type problem struct {
	status int
	code   codes.Code
	reason string
	text   string
	allow  string // the methods that a path takes instead
}

type wireError struct {
	Code    string       `json:"code"`
	Message string       `json:"message"`
	Details []wireDetail `json:"details,omitempty"`
}

type wireDetail struct {
	Type  string          `json:"type"`
	Value string          `json:"value"`
	Debug json.RawMessage `json:"debug,omitempty"`
}

// refuse answers a request whose body nobody has read. What is short it reads
// first, as net/http does on HTTP/1: on HTTP/2 an answer that overtakes its
// request ends in a reset, which curl 7.88 takes for a failure.
func (p *problem) refuse(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		if r.ProtoMajor < 2 && r.ContentLength < 0 {
			duplex(w) // its sender may keep it open until it has the answer
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
		if r.ContentLength >= 0 && r.ContentLength <= drainBytes {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}
	p.write(w)
}

// What of a refused request is read, and for how long, before its connection can
// be used again.
const (
	drainBytes   = 256 << 10
	drainTimeout = 2 * time.Second
)

// duplex lets an HTTP/1 request be answered before it has been read. Its
// connection is not used again: net/http, when it reads the rest of the body
// after the handler, leaves a goroutine that reads into the next request.
func duplex(w http.ResponseWriter) {
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Connection", "close")
}

func (p *problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p.wire())
	if err != nil { // its fields are strings, and raw JSON of strings
		http.Error(w, p.text, p.status)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Content-Type-Options", "nosniff")
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(body)
}

func (p *problem) wire() wireError {
	e := wireError{Code: connect.Code(p.code).String(), Message: p.message()}
	if bin, err := proto.Marshal(p.info()); err == nil {
		e.Details = []wireDetail{{
			Type:  "google.rpc.ErrorInfo",
			Value: base64.RawStdEncoding.EncodeToString(bin),
			Debug: fmt.Appendf(nil, `{"reason":%q,"domain":%q}`, p.reason, recipe.Domain),
		}}
	}
	return e
}

func (p *problem) message() string { return p.reason + ": " + shorten(p.text) }

// maxText bounds the texts of problems, which repeat what a caller sent.
const maxText = 600

// shorten cuts what is too long in the middle: what is wrong stands in front,
// and where at the end.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	const half = maxText / 2
	return strings.ToValidUTF8(text[:half], "") + " … " + strings.ToValidUTF8(text[len(text)-half:], "")
}

func (p *problem) info() *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: p.reason, Domain: recipe.Domain}
}

// connect returns the problem as an error that the transcoder writes in the
// form of the client.
func (p *problem) connect() *connect.Error {
	err := connect.NewError(connect.Code(p.code), errors.New(p.message()))
	if detail, derr := connect.NewErrorDetail(p.info()); derr == nil {
		err.AddDetail(detail)
	}
	return err
}

// grpc returns the problem as what a stream's methods return.
func (p *problem) grpc() error { return recipe.Errorf(p.code, p.reason, "%s", shorten(p.text)) }

func invalid(reason, format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, code: codes.InvalidArgument, reason: reason, text: fmt.Sprintf(format, args...)}
}

func unimplemented(reason, text string) *problem {
	return &problem{status: http.StatusNotFound, code: codes.Unimplemented, reason: reason, text: text}
}

func notFound(path string) *problem {
	return &problem{status: http.StatusNotFound, code: codes.NotFound, reason: "not_found", text: fmt.Sprintf("nothing is served at %q", path)}
}

func methodNotAllowed(method, allow string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, code: codes.Unimplemented, reason: "method_not_allowed", allow: allow,
		text: fmt.Sprintf("%s is not answered here; use %s", method, allow)}
}

func contentType(format string, args ...any) *problem {
	return &problem{status: http.StatusUnsupportedMediaType, code: codes.InvalidArgument, reason: "invalid_content_type", text: fmt.Sprintf(format, args...)}
}

func needsHTTP2(what string) *problem {
	return &problem{status: http.StatusHTTPVersionNotSupported, code: codes.Unimplemented, reason: "needs_http2", text: what + " needs HTTP/2"}
}

func tooLong(limit int) *problem {
	return &problem{status: http.StatusTooManyRequests, code: codes.ResourceExhausted, reason: "limit_body",
		text: fmt.Sprintf("the request is longer than %d bytes", limit)}
}

func notYet() *problem {
	return &problem{status: http.StatusServiceUnavailable, code: codes.Unavailable, reason: "recipe_restarting", text: "the host is starting, or stopping; try again"}
}

func tooSlow() *problem {
	return &problem{status: http.StatusRequestTimeout, code: codes.DeadlineExceeded, reason: "request_timeout", text: "the request did not arrive in time"}
}

func refused(format string, args ...any) *problem {
	return &problem{status: http.StatusForbidden, code: codes.PermissionDenied, reason: "not_permitted", text: fmt.Sprintf(format, args...)}
}

// httpStatus returns Connect's HTTP status for the name of a code.
func httpStatus(name string) int {
	var code connect.Code
	if err := code.UnmarshalText([]byte(name)); err != nil {
		return http.StatusInternalServerError
	}
	switch code {
	case connect.CodeCanceled:
		return 499 // the client closed the request: nginx's number, and Connect's
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeOutOfRange:
		return http.StatusBadRequest
	case connect.CodeDeadlineExceeded:
		return http.StatusGatewayTimeout
	case connect.CodeNotFound:
		return http.StatusNotFound
	case connect.CodeAlreadyExists, connect.CodeAborted:
		return http.StatusConflict
	case connect.CodePermissionDenied:
		return http.StatusForbidden
	case connect.CodeResourceExhausted:
		return http.StatusTooManyRequests
	case connect.CodeUnimplemented:
		return http.StatusNotImplemented
	case connect.CodeUnavailable:
		return http.StatusServiceUnavailable
	case connect.CodeUnauthenticated:
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}
