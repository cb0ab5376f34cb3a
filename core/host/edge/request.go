package edge

import (
	"context"
	"encoding/base64"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// The content types of the API.
const (
	typeJSON   = "application/json"
	typeProto  = "application/proto"
	typeLines  = "application/x-ndjson"
	typeStream = "application/connect+" // and a codec
	typeWeb    = "application/grpc-web"
	typeGRPC   = "application/grpc"
)

// A form is how a client speaks to a method.
type form int

const (
	formWhole     form = iota // Connect's unary form: the body is the message
	formLines                 // JSON in, lines of JSON out
	formEnvelopes             // Connect's streams, gRPC-Web, and gRPC that must be transcoded
	formGRPC                  // gRPC as its target takes it
)

const hintJSON = "set Content-Type: application/json"

// serveMethod checks a request against the method and passes it on.
func (e *Edge) serveMethod(w http.ResponseWriter, r *http.Request, m *method) {
	if p := rewriteGet(r, m); p != nil {
		p.refuse(w, r)
		return
	}
	f, p := formOf(r, m)
	if p == nil {
		p = checkHeaders(r.Header)
	}
	if p != nil {
		p.refuse(w, r)
		return
	}
	if f == formGRPC {
		e.serveGRPC(w, r, m)
		return
	}
	e.transcode(w, r, m, f)
}

// serveGRPC passes a call on that is gRPC already.
func (e *Edge) serveGRPC(w http.ResponseWriter, r *http.Request, m *method) {
	c := &call{edge: e, method: m, outer: w}
	if p := c.take(r, formGRPC); p != nil {
		p.write(w)
		return
	}
	c.serve(w, r)
}

func (e *Edge) transcode(w http.ResponseWriter, r *http.Request, m *method, f form) {
	c := &call{edge: e, method: m, outer: w, transcoded: true}
	if p := c.take(r, f); p != nil {
		p.write(w)
		return
	}
	switch f {
	case formWhole:
		// Without it the transcoder takes the request for one of its REST routes.
		r.Header["Connect-Protocol-Version"] = []string{"1"}
	case formLines:
		r.Header["Content-Type"] = []string{typeStream + "json"}
		lines := &lineWriter{w: w}
		w, c.outer = lines, lines
	case formEnvelopes, formGRPC:
	}
	m.transcoder.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
}

type callKey struct{}

// target is what the transcoders call: their requests are gRPC's.
func target(w http.ResponseWriter, r *http.Request) {
	if c, ok := r.Context().Value(callKey{}).(*call); ok {
		c.serve(w, r)
	}
}

// rewriteGet makes a POST of a GET that the method answers, and refuses other
// methods.
func rewriteGet(r *http.Request, m *method) *problem {
	readable := m.readOnly && !m.clientStream && !m.serverStream
	switch {
	case r.Method == http.MethodPost:
		return nil
	case r.Method != http.MethodGet || !readable:
		allow := http.MethodPost
		if readable {
			allow = "GET, POST"
		}
		return methodNotAllowed(r.Method, allow)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return invalid("invalid_request", "query: %v", err)
	}
	message := query.Get("message")
	switch query.Get("base64") {
	case "", "0":
	case "1":
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(message, "="))
		if err != nil {
			return invalid("invalid_request", "query parameter message: %v", err)
		}
		message = string(raw)
	default:
		return invalid("invalid_request", "query parameter base64: is neither 0 nor 1")
	}
	kind := query.Get("encoding")
	if kind == "" {
		kind = "json"
	}
	r.Method = http.MethodPost
	r.Header["Content-Type"] = []string{"application/" + kind}
	r.Header.Del("Content-Encoding")
	if c := query.Get("compression"); c != "" && c != "identity" {
		r.Header.Set("Content-Encoding", c)
	}
	_ = r.Body.Close()
	r.Body = inMemory([]byte(message))
	r.ContentLength = int64(len(message))
	r.URL.RawQuery = ""
	return nil
}

// formOf finds out how a POST speaks, and gives its content type the one
// spelling that the transcoder knows.
func formOf(r *http.Request, m *method) (form, *problem) {
	t := mediaType(r.Header)
	streams := m.clientStream || m.serverStream
	var f form
	switch codec, isStream := strings.CutPrefix(t, typeStream); {
	case t == typeJSON && m.clientStream:
		return 0, contentType("the method takes a stream of messages: use gRPC, or Connect's %sjson", typeStream)
	case t == typeJSON && m.serverStream:
		f = formLines
	case t == typeJSON, t == typeProto && !streams:
		f = formWhole
	case isStream && streams && isCodec(codec), t == typeWeb, t == typeWeb+"+proto", t == typeWeb+"+json":
		f = formEnvelopes
	case isGRPC(t):
		f = formGRPC
		if t == typeGRPC+"+json" || compressed(r.Header.Get("Grpc-Encoding")) {
			f = formEnvelopes
		}
	case t == "":
		return 0, contentType("the request has no usable content type; %s", hintJSON)
	default:
		return 0, contentType("%q is not spoken by this method; %s", t, hintJSON)
	}
	if r.ProtoMajor < 2 && isGRPC(t) {
		return 0, needsHTTP2("gRPC")
	}
	if r.ProtoMajor < 2 && m.clientStream && m.serverStream {
		return 0, needsHTTP2("a stream in both directions")
	}
	r.Header["Content-Type"] = []string{t}
	return f, nil
}

func isCodec(name string) bool { return name == "json" || name == "proto" }

// isGRPC reports whether t is a type of native gRPC with a codec of ours.
func isGRPC(t string) bool { return t == typeGRPC || t == typeGRPC+"+proto" || t == typeGRPC+"+json" }

func compressed(encoding string) bool { return encoding != "" && encoding != "identity" }

// mediaType returns the content type in lower case and without parameters, or ""
// if there is none, or several, or one in a charset other than UTF-8.
func mediaType(h http.Header) string {
	values := h["Content-Type"]
	if len(values) != 1 {
		return ""
	}
	switch values[0] {
	case typeJSON, typeProto, typeGRPC, typeGRPC + "+proto", typeWeb + "+proto":
		return values[0] // nothing to parse in most requests
	}
	t, params, err := mime.ParseMediaType(values[0])
	if err != nil {
		return ""
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return ""
	}
	return t
}

// checkHeaders refuses what the transcoder would refuse in words of its own.
func checkHeaders(h http.Header) *problem {
	if ms := h.Get("Connect-Timeout-Ms"); ms != "" {
		if n, err := strconv.ParseInt(ms, 10, 64); err != nil || n < 0 {
			return invalid("invalid_request", "header Connect-Timeout-Ms: %q is no number of milliseconds", ms)
		}
	}
	if t := h.Get("Grpc-Timeout"); t != "" {
		if _, ok := parseTimeout(t); !ok {
			return invalid("invalid_request", "header Grpc-Timeout: %q is no timeout", t)
		}
	}
	for _, key := range []string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		if v := h.Get(key); compressed(v) && v != "gzip" {
			return contentType("header %s: %q is not understood, gzip is", key, v)
		}
	}
	return nil
}
