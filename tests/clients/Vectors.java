// Checks schemas/vectors.json with Java's own library, Avro and kafka-clients (both, and Jackson, on the class path):
//
//   java -cp CLASSES Vectors.java ../../schemas/vectors.json FOLDER
//
// FOLDER holds NAME.avsc of each event type.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.text.Normalizer;
import java.time.LocalDate;
import java.util.Arrays;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Set;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.common.utils.Utils;

public class Vectors {
    static int faults = 0;

    static void expect(String what, Object found, Object wanted) {
        if (!found.equals(wanted)) {
            faults++;
            System.out.println(what + ": " + found + ", not " + wanted);
        }
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode vectors = new ObjectMapper().readTree(new File(arguments[0]));
        HexFormat hex = HexFormat.of();
        Set<Character> outer = new HashSet<>();
        vectors.get("outer_space").forEach(code -> outer.add((char) Integer.parseInt(code.asText(), 16)));
        int stripped = 0, trimmed = 0;
        for (JsonNode each : vectors.get("identifiers")) {
            String text = Normalizer.normalize(each.get("identifier").asText(), Normalizer.Form.NFC);
            int from = 0, to = text.length();
            while (from < to && outer.contains(text.charAt(from))) from++;
            while (from < to && outer.contains(text.charAt(to - 1))) to--;
            String normal = each.get("normal").asText();
            expect("normal", text.substring(from, to), normal);
            if (!text.strip().equals(normal)) stripped++;
            if (!text.trim().equals(normal)) trimmed++;
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(vectors.get("pepper").asText().getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
            byte[] digest = mac.doFinal(normal.getBytes(StandardCharsets.UTF_8));
            expect("key", hex.formatHex(Arrays.copyOf(digest, 16)), each.get("key").asText());
        }
        for (JsonNode each : vectors.get("events")) {
            String name = each.get("event").asText();
            Schema schema = new Schema.Parser().parse(new File(arguments[1], name + ".avsc"));
            GenericData.Record record = new GenericData.Record(schema);
            record.put("case_key", new GenericData.Fixed(schema.getField("case_key").schema(), hex.parseHex(each.get("case_key").asText())));
            byte[] id = hex.parseHex(each.get("event_id").asText().replace("-", ""));
            record.put("event_id", new GenericData.Fixed(schema.getField("event_id").schema(), id));
            record.put("revision", each.get("revision").asInt());
            LocalDate day = LocalDate.parse(each.get("occurred_on").asText());
            record.put("occurred_on", (int) day.toEpochDay());
            expect("timestamp", day.toEpochDay() * 86400000L, each.get("timestamp").asLong());
            each.get("attributes").fields().forEachRemaining(attribute -> record.put(attribute.getKey(),
                new GenericData.EnumSymbol(schema.getField(attribute.getKey()).schema(), attribute.getValue().asText())));
            // The encoder writes the header by itself.
            ByteBuffer message = new BinaryMessageEncoder<GenericData.Record>(new GenericData(), schema).encode(record);
            byte[] bytes = new byte[message.remaining()];
            message.get(bytes);
            expect("avro " + name, hex.formatHex(bytes), each.get("value").asText());
            byte[] fingerprint = SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema);
            expect("fingerprint " + name, hex.formatHex(fingerprint), vectors.get("fingerprints").get(name).asText());
        }
        for (JsonNode each : vectors.get("partitions")) {
            int count = each.get("partitions").asInt();
            int hash = Utils.toPositive(Utils.murmur2(hex.parseHex(each.get("key").asText())));
            expect("partition", hash % count, each.get("partition").asInt());
        }
        System.out.println(faults + " faults; " + stripped + " identifiers that strip() makes another, "
            + trimmed + " that trim() does");
    }
}
