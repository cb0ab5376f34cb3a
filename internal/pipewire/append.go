package pipewire

import (
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// AppendCall adds a call of a method to a CallsRequest. It does not look at c.Method.
func AppendCall(b []byte, method string, c *Call) []byte {
	size := sizeNumber(c.ID) + sizeBytes(len(method)) + sizeBytes(len(c.Request)) + sizeNumber(uint64(c.Timeout)) + sizePairs(c.Metadata)
	b = protowire.AppendTag(b, fieldCalls, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendNumber(b, callID, c.ID)
	b = appendBytes(b, callMethod, method)
	b = appendBytes(b, callRequest, c.Request)
	b = appendNumber(b, callTimeout, uint64(c.Timeout))
	return appendPairs(b, callMetadata, c.Metadata)
}

// AppendCancel adds the end of a call to a CallsRequest.
func AppendCancel(b []byte, id uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, fieldCancels, protowire.VarintType), id)
}

// AppendAnswer adds an answer to a CallsResponse.
func AppendAnswer(b []byte, a *Answer) []byte {
	size := sizeNumber(a.ID) + sizeBytes(len(a.Response)) + sizeBytes(len(a.Status)) + sizePairs(a.Header) + sizePairs(a.Trailer)
	b = protowire.AppendTag(b, fieldAnswers, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = appendNumber(b, answerID, a.ID)
	b = appendBytes(b, answerOK, a.Response)
	b = appendBytes(b, answerStatus, a.Status)
	b = appendPairs(b, answerHeader, a.Header)
	return appendPairs(b, answerTrailer, a.Trailer)
}

// tagSize is that of the tag of a field with a number below 16.
const tagSize = 1

func sizeNumber(v uint64) int {
	if v == 0 {
		return 0
	}
	return tagSize + protowire.SizeVarint(v)
}

func appendNumber(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return tagSize + protowire.SizeBytes(n)
}

func appendBytes[T ~string | ~[]byte](b []byte, n protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, n, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

func sizePair(key, value string) int { return sizeBytes(len(key)) + sizeBytes(len(value)) }

func sizePairs(md metadata.MD) (size int) {
	for key, values := range md {
		for _, v := range values {
			size += tagSize + protowire.SizeBytes(sizePair(key, v))
		}
	}
	return size
}

func appendPairs(b []byte, n protowire.Number, md metadata.MD) []byte {
	for key, values := range md {
		for _, v := range values {
			b = protowire.AppendTag(b, n, protowire.BytesType)
			b = protowire.AppendVarint(b, uint64(sizePair(key, v)))
			b = appendBytes(b, pairKey, key)
			b = appendBytes(b, pairValue, v)
		}
	}
	return b
}
