"""Made-up sentences in twelve languages and ten scripts."""

# ruff: noqa: RUF001 (letters of other scripts look like Latin ones)

PHRASES: dict[str, tuple[str, str]] = {
    "French": (
        "Le vieux professeur|Ma sœur aînée|Un garçon très fatigué|L'hôtel à côté|Notre équipe|"
        "Cet élève|Le musée d'été|Une fille naïve",
        "cherche où dormir cette nuit.|n'a jamais vu la mer.|coûte 25 € aujourd'hui.|"
        "attend le train de 18 h 30.|préfère le café sans sucre !|a été fermé en février.|"
        "parle avec l'évêque ?|est déjà là.",
    ),
    "Vietnamese": (
        "Người đàn ông già|Chị gái tôi|Con chó nhỏ|Khách sạn này|Đội bóng của chúng tôi|"
        "Học sinh mới|Bảo tàng thành phố|Cô giáo",
        "đang chờ chuyến tàu.|thích uống cà phê sữa đá.|chưa bao giờ thấy biển.|ở gần nhà ga.|"
        "đã đóng cửa tháng trước.|nói chuyện với hàng xóm.|sẽ đến vào ngày mai.|rất mệt hôm nay.",
    ),
    "Turkish": (
        "Yaşlı öğretmen|Ablam İpek|Küçük köpek|Yandaki otel|Takımımız|Yeni öğrenci|Şehir müzesi|"
        "Güneşli ülke",
        "bu gece uyuyacak yer arıyor.|denizi hiç görmedi.|bugün 25 lira.|treni bekliyor.|"
        "şekersiz kahveyi sever!|geçen ay kapandı.|komşuyla konuşuyor mu?|çok yorgun.",
    ),
    "Russian": (
        "Старый учитель|Моя сестра|Маленький щенок|Соседний отель|Наш тренер|Новый ученик|"
        "Городской музей|Ёжик в тумане",
        "ищет место для ночлега.|никогда не видит моря.|стоит сегодня 25 рублей.|ждёт поезд.|"
        "любит кофе без сахара!|закрыт с февраля.|говорит с соседом?|очень устаёт.",
    ),
    "Greek": (
        "Ο γέρος δάσκαλος|Η αδελφή μου|Ο μικρός σκύλος|Το διπλανό ξενοδοχείο|Η ομάδα μας|"
        "Ο νέος μαθητής|Το μουσείο της πόλης|Ο Οδυσσέας",
        "ψάχνει πού να κοιμηθεί.|δεν έχει δει ποτέ τη θάλασσα.|κοστίζει 25 ευρώ σήμερα.|"
        "περιμένει το τρένο.|προτιμά τον καφέ σκέτο!|έκλεισε τον Φεβρουάριο.|"
        "μιλάει με τον γείτονα;|είναι πολύ μακριά.",
    ),
    "Arabic": (
        "المعلم العجوز|أخي الكبير|الكلب الصغير|الفندق المجاور|فريقنا|الطالب الجديد|"
        "متحف المدينة|السَّائِقُ",
        "يبحث عن مكان للنوم.|لم يَرَ البحر قط.|يكلف ٢٥ دينارا اليوم.|ينتظر القطار.|"
        "يفضل القهوة بلا سكر!|أُغلق في فبراير.|يتكلم مع الجار؟|متعب جدا.",
    ),
    "Hebrew": (
        "המורה הזקן|אחי הגדול|הכלב הקטן|המלון הסמוך|הצוות שלנו|התלמיד החדש|מוזיאון העיר|הַנֶּהָג",
        "מחפש מקום לישון.|לא ראה מעולם את הים.|עולה היום 25 שקל.|מחכה לרכבת.|"
        "מעדיף קפה בלי סוכר!|נסגר בפברואר.|מדבר עם השכן?|עייף מאוד.",
    ),
    "Hindi": (
        "बूढ़ा शिक्षक|मेरा बड़ा भाई|छोटा कुत्ता|पास का होटल|हमारा दल|नया छात्र|शहर का संग्रहालय|ड्राइवर",
        "सोने की जगह ढूँढ रहा है।|ने समुद्र कभी नहीं देखा।|आज २५ रुपये का है।|"
        "ट्रेन की प्रतीक्षा कर रहा है।|बिना चीनी की कॉफ़ी पसंद करता है!|"
        "फ़रवरी से बंद है।|पड़ोसी से बात करता है?|बहुत थका है।",
    ),
    "Thai": (
        "ครูแก่|พี่สาวของฉัน|หมาตัวเล็ก|โรงแรมข้างๆ|ทีมของเรา|นักเรียนใหม่|พิพิธภัณฑ์เมือง|คนขับรถ",
        "กำลังหาที่นอนคืนนี้|ไม่เคยเห็นทะเล|ราคา ๒๕ บาทวันนี้|กำลังรอรถไฟอยู่ที่สถานี|"
        "ชอบกาแฟไม่ใส่น้ำตาล!|ปิดตั้งแต่เดือนกุมภาพันธ์|คุยกับเพื่อนบ้านไหม?|เหนื่อยมาก",
    ),
    "Korean": (
        "늙은 선생님은|우리 누나는|작은 강아지는|옆 호텔은|우리 팀은|새 학생은|"
        "도시 박물관은|운전사는",
        "잘 곳을 찾고 있습니다.|바다를 본 적이 없다.|오늘 25원입니다.|기차를 기다립니다.|"
        "설탕 없는 커피를 좋아합니다!|2월에 문을 닫았습니다.|이웃과 이야기합니까?|아주 피곤합니다.",
    ),
    "Japanese": (
        "年取った先生は|私の姉は|小さな犬は|隣のホテルは|私たちのチームは|新しい学生は|市の博物館は|ﾄﾞﾗｲﾊﾞｰは",
        "今夜寝る所を探している。|海を見たことがない。|今日は２５円です。|電車を待っています。|"
        "砂糖なしのコーヒーが好きです！|二月に閉まった。|隣人と話しますか？|とても疲れている。",
    ),
    "Chinese": (
        "老教师|我的姐姐|那只小狗|隔壁的酒店|我們的隊伍|新学生|城市博物馆|司機",
        "在找睡觉的地方。|从来没有见过大海。|今天卖２５元。|正在等火车。|喜欢不加糖的咖啡！|二月就关门了。|"
        "在和邻居说话吗？|非常累。",
    ),
}


def sentences() -> list[str]:
    """Returns every subject with every predicate: 64 sentences of each language."""
    made = []
    for language, phrases in PHRASES.items():
        subjects, predicates = (each.split("|") for each in phrases)
        space = "" if language in ("Thai", "Japanese", "Chinese") else " "
        made += [f"{subject}{space}{end}" for subject in subjects for end in predicates]
    return made
