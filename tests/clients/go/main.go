// Fanfare as Go's net/http sees it: an event stream and its Last-Event-ID, polls with sends, a channel that is denied.
//
// In: the server's address, a key of the HTTP API, and the version of HTTP, `1.1` or `2` (over TLS). Out: exit status
// 0, or the message of the check that fails. Each request waits for an answer; nothing sleeps.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
)

var (
	base, key, version = os.Args[1], os.Args[2], os.Args[3]
	channel            = "open:go-" + version
	client             = &http.Client{Transport: &http.Transport{
		// The certificate of `fanfare dev --tls` signs itself.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: version == "2",
	}}
)

type object = map[string]any

func check(good bool, what ...any) {
	if !good {
		log.Fatal(what...)
	}
}

func do(request *http.Request) *http.Response {
	response, err := client.Do(request)
	check(err == nil, request.URL, err)
	major := map[string]int{"1.1": 1, "2": 2}[version]
	check(response.ProtoMajor == major, request.URL, response.Proto)
	return response
}

func post(path string, body any) object {
	text, _ := json.Marshal(body)
	request, _ := http.NewRequest("POST", base+path, bytes.NewReader(text))
	request.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/api/") {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response := do(request)
	defer response.Body.Close()
	var answer object
	err := json.NewDecoder(response.Body).Decode(&answer)
	check(err == nil && response.StatusCode == 200, path, response.Status, answer, err)
	return answer
}

func publish(number int) {
	post("/api/v1/publish", object{"channel": channel, "data": object{"n": number}})
}

func events(channel, lastId string) *http.Response {
	request, _ := http.NewRequest("GET", base+"/events?channel="+url.QueryEscape(channel), nil)
	if lastId != "" {
		request.Header.Set("Last-Event-ID", lastId)
	}
	return do(request)
}

// The next block of an event stream that has data.
func block(lines *bufio.Scanner) map[string]string {
	found := map[string]string{}
	for lines.Scan() {
		name, value, isField := strings.Cut(lines.Text(), ": ")
		switch {
		case isField:
			found[name] = value
		case lines.Text() == "" && found["data"] != "":
			return found
		}
	}
	log.Fatal("the stream ended: ", lines.Err())
	return nil
}

func expect(lines *bufio.Scanner, number int) string {
	found := block(lines)
	var data struct{ N *int }
	err := json.Unmarshal([]byte(found["data"]), &data)
	check(err == nil && data.N != nil && *data.N == number && found["event"] == "", number, found)
	return found["id"]
}

func main() {
	log.SetFlags(log.Lshortfile)
	// Each publication arrives before the next one is made.
	response := events(channel, "")
	lines := bufio.NewScanner(response.Body)
	check(strings.Contains(block(lines)["data"], `"type":"connected"`), "connected")
	id := ""
	for number := 0; number < 3; number++ {
		publish(number)
		id = expect(lines, number)
	}
	response.Body.Close()

	// While nobody listens, two more; the id of the last one brings them, once and in order.
	publish(3)
	publish(4)
	response = events(channel, id)
	lines = bufio.NewScanner(response.Body)
	check(strings.Contains(block(lines)["data"], `"type":"connected"`), "connected")
	expect(lines, 3)
	expect(lines, 4)
	publish(5)
	expect(lines, 5)
	response.Body.Close()

	// A channel that the rules deny.
	response = events("closed:x", "")
	check(response.StatusCode == 403, response.Status)
	response.Body.Close()

	// A conversation by polls and sends.
	first := post("/v1/poll", object{"type": "connect", "id": 1, "attempt": "go-" + version})
	connected := first["messages"].([]any)[0].(object)
	check(connected["type"] == "connected", first)
	ticket := connected["ticket"]
	commands := []object{
		{"type": "subscribe", "id": 2, "channel": channel},
		{"type": "subscribe", "id": 3, "channel": "closed:x"},
	}
	replies := post("/v1/send", object{"ticket": ticket, "n": 1, "commands": commands})["replies"].([]any)
	check(replies[0].(object)["type"] == "subscribed" && replies[0].(object)["offset"] == 6.0, replies)
	check(replies[1].(object)["type"] == "error" && replies[1].(object)["code"] == "denied", replies)
	command := object{"type": "publish", "id": 4, "channel": channel, "data": "sent"}
	send := object{"ticket": ticket, "n": 2, "commands": command}
	once, again := post("/v1/send", send), post("/v1/send", send)
	check(reflect.DeepEqual(once, again) && once["replies"].([]any)[0].(object)["offset"] == 7.0, once, again)
	poll := object{"ticket": ticket, "ack": 1, "wait": 20000}
	once, again = post("/v1/poll", poll), post("/v1/poll", poll)
	messages := once["messages"].([]any)
	check(reflect.DeepEqual(once, again) && len(messages) == 1, once, again)
	check(messages[0].(object)["data"] == "sent", once)
	empty := post("/v1/poll", object{"ticket": ticket, "ack": 2, "wait": 0})
	check(len(empty["messages"].([]any)) == 0, empty)
}
