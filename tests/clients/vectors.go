// Checks schemas/vectors.json with Go's own library, hamba/avro, goavro and franz-go:
//
//	go mod init vectors && go get github.com/hamba/avro/v2 github.com/linkedin/goavro/v2 github.com/twmb/franz-go \
//		github.com/IBM/sarama golang.org/x/text
//	go run vectors.go ../../schemas/vectors.json FOLDER
//
// FOLDER holds NAME.avsc of each event type.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/hamba/avro/v2"
	"github.com/linkedin/goavro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/text/unicode/norm"
)

type file struct {
	Pepper       string
	OuterSpace   []string `json:"outer_space"`
	Identifiers  []struct{ Identifier, Normal, Key string }
	Fingerprints map[string]string
	Events       []struct {
		Event, Case_key, Event_id, Occurred_on, Value string
		Revision                                      int
		Attributes                                    map[string]any
		Timestamp                                     int64
	}
	Partitions []struct {
		Key                   string
		Partitions, Partition int
	}
}

var faults int

func expect(what string, found, wanted any) {
	if found != wanted {
		faults++
		fmt.Printf("%s: %v, not %v\n", what, found, wanted)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	var vectors file
	if err := json.Unmarshal(must(os.ReadFile(os.Args[1])), &vectors); err != nil {
		panic(err)
	}
	outer := ""
	for _, code := range vectors.OuterSpace {
		outer += string(rune(must(strconv.ParseInt(code, 16, 32))))
	}
	otherwise := 0
	for _, each := range vectors.Identifiers {
		normal := strings.Trim(norm.NFC.String(each.Identifier), outer)
		expect("normal", normal, each.Normal)
		mac := hmac.New(sha256.New, []byte(vectors.Pepper))
		mac.Write([]byte(normal))
		expect("key", hex.EncodeToString(mac.Sum(nil)[:16]), each.Key)
		if strings.TrimSpace(norm.NFC.String(each.Identifier)) != each.Normal {
			otherwise++
		}
	}
	for _, each := range vectors.Events {
		text := string(must(os.ReadFile(filepath.Join(os.Args[2], each.Event+".avsc"))))
		day := must(time.Parse("2006-01-02", each.Occurred_on))
		expect("timestamp", day.UnixMilli(), each.Timestamp)
		var key, id [16]byte
		copy(key[:], must(hex.DecodeString(each.Case_key)))
		copy(id[:], must(hex.DecodeString(strings.ReplaceAll(each.Event_id, "-", ""))))
		datum := map[string]any{"case_key": key, "event_id": id, "revision": each.Revision, "occurred_on": day}
		other := map[string]any{"case_key": key[:], "event_id": id[:], "revision": each.Revision, "occurred_on": day}
		for name, value := range each.Attributes {
			datum[name], other[name] = value, value
		}
		header := must(hex.DecodeString("c301" + vectors.Fingerprints[each.Event]))
		schema := must(avro.Parse(text))
		expect("hamba "+each.Event, hex.EncodeToString(append(header[:10:10], must(avro.Marshal(schema, datum))...)), each.Value)
		codec := must(goavro.NewCodec(text))
		expect("goavro "+each.Event, hex.EncodeToString(must(codec.BinaryFromNative(header[:10:10], other))), each.Value)
	}
	for name, wanted := range vectors.Fingerprints {
		text := string(must(os.ReadFile(filepath.Join(os.Args[2], name+".avsc"))))
		hamba := must(avro.MustParse(text).FingerprintUsing(avro.CRC64AvroLE))
		var goavros [8]byte
		binary.LittleEndian.PutUint64(goavros[:], must(goavro.NewCodec(text)).Rabin)
		fmt.Println("fingerprint of", name, "printed", wanted, "hamba", hex.EncodeToString(hamba), "goavro", hex.EncodeToString(goavros[:]))
	}
	sticky, sarmas := kgo.StickyKeyPartitioner(nil), 0
	for _, each := range vectors.Partitions {
		key := must(hex.DecodeString(each.Key))
		found := sticky.ForTopic("case-events").Partition(&kgo.Record{Key: key}, each.Partitions)
		expect("franz-go", found, each.Partition)
		hash := must(sarama.NewHashPartitioner("case-events").Partition(&sarama.ProducerMessage{Key: sarama.ByteEncoder(key)}, int32(each.Partitions)))
		if int(hash) != each.Partition {
			sarmas++
		}
	}
	fmt.Printf("%d faults; %d identifiers that TrimSpace makes another; sarama's default differs in %d of %d partitions\n",
		faults, otherwise, sarmas, len(vectors.Partitions))
}
