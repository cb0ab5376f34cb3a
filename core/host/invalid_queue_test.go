package host_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/recipes/queue"
)

const queueService = "queue.v1.QueueService/"

// queueVerbs are the methods of the service; those of a session are marked.
func queueVerbs() (all []verb, session map[string]bool) {
	const item = `,"id":"@ITEM","token":"@TOKEN"`
	all = []verb{
		{queueService + "Enqueue", `,"items":[{"value":"v"}]`}, {queueService + "Dequeue", `,"wait":"0s"`}, {queueService + "Ack", item},
		{queueService + "Nack", item}, {queueService + "Extend", item + `,"visibility":"60s"`}, {queueService + "Peek", ""}, {queueService + "Stats", ""},
		{queueService + "Pause", ""}, {queueService + "Resume", ""}, {queueService + "Requeue", `,"all":true`}, {queueService + "Drop", `,"all":true`},
	}
	session = make(map[string]bool)
	for _, m := range []string{"Dequeue", "Ack", "Nack", "Extend"} {
		session[queueService+m] = true
	}
	return all, session
}

func badItems() []bad {
	refuse := func(method, what, fields, field, limit string) bad {
		return verb{queueService + method, ""}.of(what, fields, codes.InvalidArgument, "invalid_"+field+": "+field+": ", limit)
	}
	put := func(what, fields, field, limit string) bad {
		return refuse("Enqueue", what, `"name":"n","items":[{`+fields+`}]`, field, limit)
	}
	const taker, mine = `"sessionId":"@A","name":"n",`, `"sessionId":"@A","name":"held","id":"@ITEM","token":"@TOKEN",`
	return []bad{
		refuse("Enqueue", "no items", `"name":"n"`, "items", "0"),
		refuse("Enqueue", "1,001 items", `"name":"n","items":[`+strings.Repeat(`{},`, 1000)+`{}]`, "items", "1000"),
		refuse("Enqueue", "a negative capacity", `"name":"n","items":[{}],"capacity":-1`, "capacity", "-1"),
		refuse("Enqueue", "a negative wait", `"name":"n","items":[{}],"wait":"-1s"`, "wait", "negative"),
		refuse("Enqueue", "a short window", `"name":"n","items":[{}],"dedupWindow":"1s"`, "dedup_window", ""),
		put("a value of 256 kB and a byte", `"value":"`+strings.Repeat("v", 256<<10+1)+`"`, "value", "262144"),
		put("a value and data", `"value":"v","data":"ZA=="`, "value", "data"),
		put("a priority of 128", `"priority":128`, "priority", "127"),
		put("a negative delay", `"delay":"-1s"`, "delay", "negative"),
		put("a delay of two years", `"delay":"63072000s"`, "delay", ""),
		put("a long id", `"dedupId":"`+strings.Repeat("d", 256)+`"`, "dedup_id", "255"),
		put("a long group", `"group":"`+strings.Repeat("g", 256)+`"`, "group", "255"),
		refuse("Dequeue", "a negative wait", taker+`"wait":"-1s"`, "wait", "negative"),
		refuse("Dequeue", "1,001 items", taker+`"maxItems":1001`, "max_items", "1000"),
		refuse("Dequeue", "a millisecond", taker+`"visibility":"0.001s"`, "visibility", ""),
		refuse("Dequeue", "negative attempts", taker+`"maxAttempts":-1`, "max_attempts", "-1"),
		refuse("Nack", "a negative pause", mine+`"after":"-1s"`, "after", "negative"),
		refuse("Nack", "a pause and a rejection", mine+`"after":"1s","reject":true`, "after", "reject"),
		refuse("Nack", "a bad id", `"sessionId":"@A","name":"held","token":"@TOKEN","id":"a//b"`, "id", ""),
		refuse("Ack", "no id", `"sessionId":"@A","name":"held","token":"@TOKEN"`, "id", ""),
		refuse("Ack", "no token", `"sessionId":"@A","name":"held","id":"@ITEM"`, "token", "0"),
		refuse("Ack", "101 enqueues", mine+`"enqueue":[`+strings.Repeat(`{},`, 100)+`{}]`, "enqueue", "100"),
		refuse("Extend", "no time", mine[:len(mine)-1], "visibility", "missing"),
		refuse("Peek", "negative items", `"name":"n","maxItems":-1`, "max_items", "-1"),
		refuse("Drop", "nothing", `"name":"n"`, "ids", "either"),
		refuse("Requeue", "some, and all", `"name":"n","ids":["x"],"all":true`, "ids", "either"),
		refuse("List", "a bad prefix", `"prefix":"\n"`, "prefix", "control character"),
	}
}

func badDeliveries() []bad {
	var all []bad
	for method, more := range map[string]string{"Ack": "", "Nack": "", "Extend": `,"visibility":"60s"`} {
		v := verb{queueService + method, more}
		for what, fields := range map[string]string{
			"another token":          `"sessionId":"@A","name":"held","id":"@ITEM","token":"42"`,
			"another session":        `"sessionId":"@B","name":"held","id":"@ITEM","token":"@TOKEN"`,
			"an item that is none":   `"sessionId":"@A","name":"held","id":"none","token":"@TOKEN"`,
			"another queue":          `"sessionId":"@A","name":"free","id":"@ITEM","token":"@TOKEN"`,
			"from another namespace": `"sessionId":"@X","namespace":"elsewhere","name":"held","id":"@ITEM","token":"@TOKEN"`,
		} {
			all = append(all, v.of(what, fields, codes.FailedPrecondition, "stale_delivery: ", ""))
		}
	}
	return all
}

// Bad input to queues is refused alike over every transport, and writes nothing.
func TestBadInputToQueuesIsRefused(t *testing.T) {
	t.Parallel()
	s := newOwners(t, queue.Recipe{}, ``, queueService+"Dequeue", `{"sessionId":"@A","name":"held","visibility":"600s"}`)
	verbs, session := queueVerbs()
	var own []verb
	for _, v := range verbs {
		if session[v.method] {
			own = append(own, v)
		}
	}
	s.refusesAll(t, slices.Concat(refusedNames(verbs, session), refusedSessions(own, "held"), badItems(), badDeliveries()))
}
