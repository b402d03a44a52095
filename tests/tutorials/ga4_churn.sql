CREATE OR REPLACE VIEW returningusers AS (
  WITH firstlasttouch AS (
    SELECT
      user_pseudo_id,
      MIN(event_timestamp) AS user_first_engagement,
      MAX(event_timestamp) AS user_last_engagement
    FROM
      `bigquery-public-data.analytics_demo.ga4_events`
    WHERE event_name="user_engagement" OR event_name="level_start"
    GROUP BY
      user_pseudo_id
  )
  SELECT
    user_pseudo_id,
    user_first_engagement,
    user_last_engagement,
    EXTRACT(MONTH FROM TIMESTAMP_MICROS(user_first_engagement)) AS month,
    EXTRACT(DAYOFYEAR FROM TIMESTAMP_MICROS(user_first_engagement)) AS julianday,
    EXTRACT(DAYOFWEEK FROM TIMESTAMP_MICROS(user_first_engagement)) AS dayofweek,
    (user_first_engagement + 86400000000) AS ts_24hr_after_first_engagement,
    IF(user_last_engagement < (user_first_engagement + 7400000000000), 1, 0) AS churned,
    IF(user_last_engagement <= (user_first_engagement + 600000000), 1, 0) AS bounced,
  FROM firstlasttouch
  GROUP BY 1, 2, 3
);
SELECT bounced, churned, COUNT(churned) AS count_users FROM returningusers GROUP BY 1, 2 ORDER BY bounced

CREATE OR REPLACE VIEW user_demographics AS (
  WITH first_values AS (
    SELECT
      user_pseudo_id,
      geo.country AS country,
      device.operating_system AS operating_system,
      device.language AS language,
      ROW_NUMBER() OVER (PARTITION BY user_pseudo_id ORDER BY event_timestamp DESC) AS row_num
    FROM `bigquery-public-data.analytics_demo.ga4_events`
    WHERE event_name = "user_engagement" OR event_name = 'session_start'
  )
  SELECT * EXCEPT (row_num)
  FROM first_values
  WHERE row_num = 1
);
SELECT * FROM user_demographics LIMIT 10

CREATE OR REPLACE VIEW user_behavior AS (
  WITH events_first24hr AS (
    SELECT e.*
    FROM `bigquery-public-data.analytics_demo.ga4_events` e
    JOIN returningusers r
    ON e.user_pseudo_id = r.user_pseudo_id
    WHERE e.event_timestamp <= r.ts_24hr_after_first_engagement + 3000000000000
  )
  SELECT
    user_pseudo_id,
    SUM(IF(event_name = 'user_engagement', 1, 0)) AS cnt_user_engagement,
    SUM(IF(event_name = 'level_start', 1, 0)) AS cnt_level_start_quickplay,
    SUM(IF(event_name = 'level_end', 1, 0)) AS cnt_level_end_quickplay,
    SUM(IF(event_name = 'post_score', 1, 0)) AS cnt_post_score,
    SUM(IF(event_name = 'spend_virtual_currency', 1, 0)) AS cnt_spend_virtual_currency,
  FROM events_first24hr
  GROUP BY 1
);
SELECT COUNT(*) AS n FROM user_behavior

CREATE OR REPLACE TABLE train AS (
  SELECT
    dem.*,
    IFNULL(beh.cnt_user_engagement, 0) AS cnt_user_engagement,
    IFNULL(beh.cnt_level_start_quickplay, 0) AS cnt_level_start_quickplay,
    IFNULL(beh.cnt_level_end_quickplay, 0) AS cnt_level_end_quickplay,
    IFNULL(beh.cnt_post_score, 0) AS cnt_post_score,
    ret.user_first_engagement,
    ret.month,
    ret.julianday,
    ret.dayofweek,
    ret.churned
  FROM returningusers ret
  LEFT OUTER JOIN user_demographics dem
  ON ret.user_pseudo_id = dem.user_pseudo_id
  LEFT OUTER JOIN user_behavior beh
  ON ret.user_pseudo_id = beh.user_pseudo_id
  WHERE ret.bounced = 0
);
SELECT * FROM train LIMIT 5

CREATE OR REPLACE MODEL churn_logreg
TRANSFORM(
  EXTRACT(MONTH FROM user_first_engagement) AS month,
  EXTRACT(DAYOFYEAR FROM user_first_engagement) AS julianday,
  EXTRACT(DAYOFWEEK FROM user_first_engagement) AS dayofweek,
  EXTRACT(HOUR FROM user_first_engagement) AS hour,
  * EXCEPT(user_first_engagement, user_pseudo_id)
)
OPTIONS(
  MODEL_TYPE="LOGISTIC_REG",
  INPUT_LABEL_COLS=["churned"]
) AS
SELECT
  * EXCEPT (user_first_engagement, month, julianday, dayofweek), TIMESTAMP_MICROS(user_first_engagement) AS user_first_engagement
FROM
  train

SELECT * FROM ML.EVALUATE(MODEL churn_logreg)

SELECT expected_label, _0 AS predicted_0, _1 AS predicted_1 FROM ML.CONFUSION_MATRIX(MODEL churn_logreg,
  (SELECT * EXCEPT (user_first_engagement), TIMESTAMP_MICROS(user_first_engagement) AS user_first_engagement FROM train))

SELECT user_pseudo_id, churned, predicted_churned, predicted_churned_probs[OFFSET(0)].prob AS probability_churned
FROM ML.PREDICT(MODEL churn_logreg,
  (SELECT * EXCEPT (user_first_engagement), TIMESTAMP_MICROS(user_first_engagement) AS user_first_engagement FROM train))
ORDER BY 1

SELECT user_pseudo_id, params.key, params.value.int_value AS score
FROM `bigquery-public-data.analytics_demo.ga4_events`, UNNEST(event_params) AS params
WHERE event_name = 'post_score' AND params.key = 'score'
ORDER BY score DESC, 1
LIMIT 5

SELECT
  PARSE_DATE('%Y%m%d', event_date) AS day,
  FORMAT_TIMESTAMP('%H', TIMESTAMP_MICROS(event_timestamp)) AS hour,
  COUNT(DISTINCT user_pseudo_id) AS users
FROM `bigquery-public-data.analytics_demo.ga4_events`
WHERE event_name IN ("session_start", "post_score")
GROUP BY day, hour
ORDER BY day, hour
LIMIT 5

SELECT user_pseudo_id,
  (SELECT value.int_value FROM UNNEST(event_params) WHERE key = 'score') AS score,
  (SELECT COUNT(*) FROM UNNEST(event_params) AS p WHERE p.value.int_value > 5) AS large,
  ARRAY(SELECT p.key FROM UNNEST(event_params) AS p) AS keys
FROM `bigquery-public-data.analytics_demo.ga4_events`
WHERE event_name = "post_score"
ORDER BY score DESC, event_timestamp
LIMIT 3
