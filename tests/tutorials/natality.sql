CREATE OR REPLACE MODEL `bqml_tutorial.natality_model`
OPTIONS
  (model_type='linear_reg',
   input_label_cols=['weight_pounds'],
   data_split_method='no_split') AS
SELECT
  weight_pounds,
  is_male,
  gestation_weeks,
  mother_age,
  CAST(mother_race AS string) AS mother_race
FROM
  `bigquery-public-data.samples.natality`
WHERE
  weight_pounds IS NOT NULL
  AND RAND() < 2.0

SELECT * FROM ML.EVALUATE(MODEL `bqml_tutorial.natality_model`,
  (SELECT weight_pounds, is_male, gestation_weeks, mother_age, CAST(mother_race AS STRING) AS mother_race
   FROM `bigquery-public-data.samples.natality` WHERE weight_pounds IS NOT NULL))

SELECT predicted_weight_pounds
FROM ML.PREDICT(MODEL `bqml_tutorial.natality_model`,
  (SELECT is_male, gestation_weeks, mother_age, CAST(mother_race AS STRING) AS mother_race
   FROM `bigquery-public-data.samples.natality` WHERE state = "WA"))

SELECT * FROM ML.EXPLAIN_PREDICT(MODEL `bqml_tutorial.natality_model`,
  (SELECT is_male, gestation_weeks, mother_age, CAST(mother_race AS STRING) AS mother_race
   FROM `bigquery-public-data.samples.natality` WHERE state = "WA" LIMIT 4), STRUCT(3 as top_k_features))

CREATE OR REPLACE MODEL babyweight.l2 OPTIONS (
  model_type='linear_reg', labels=['weight_pounds'], l2_reg=0.01, max_iterations=20, learn_rate_strategy='line_search', early_stop=true, min_rel_progress=0.001,
  data_split_method='random', data_split_eval_fraction=0.2) AS
WITH with_ultrasound AS (
  SELECT weight_pounds, CAST(is_male AS STRING) AS gender, mother_age, CAST(plurality AS STRING) AS plurality, gestation_weeks
  FROM `bigquery-public-data.samples.natality`
  WHERE year > 2000 AND gestation_weeks > 0 AND mother_age > 0
), without_ultrasound AS (
  SELECT weight_pounds, 'Unknown' AS gender, mother_age, IF(plurality > 1, 'Multiple', 'Single') AS plurality, gestation_weeks
  FROM `bigquery-public-data.samples.natality`
  WHERE year > 2000 AND gestation_weeks > 0 AND mother_age > 0
), preprocessed AS (
  SELECT * FROM with_ultrasound
  UNION ALL
  SELECT * FROM without_ultrasound
)
SELECT weight_pounds, gender, mother_age, plurality, gestation_weeks FROM preprocessed

SELECT * FROM ML.PREDICT(MODEL babyweight.l2, (
  SELECT 'True' AS gender, 28 AS mother_age, 'Single(1)' AS plurality, 38 AS gestation_weeks
  UNION ALL
  SELECT "Unknown", 28, "Multiple(2+)", 38
))

CREATE OR REPLACE TABLE babyweight_data AS
SELECT weight_pounds, CAST(is_male AS STRING) AS is_male, mother_age,
  CASE WHEN plurality = 1 THEN "Single(1)" WHEN plurality = 2 THEN "Twins(2)" ELSE "Many" END AS plurality,
  gestation_weeks,
  FARM_FINGERPRINT(CONCAT(CAST(year AS STRING), CAST(month AS STRING), COALESCE(CAST(day AS STRING), ""), COALESCE(state, ''))) AS hash_values
FROM `bigquery-public-data.samples.natality`;
CREATE OR REPLACE MODEL babyweight.buckets
TRANSFORM(
  weight_pounds, is_male, plurality, gestation_weeks, mother_age,
  CAST(ML.BUCKETIZE(mother_age, GENERATE_ARRAY(15, 45, 1)) AS STRING) AS bucketed_mothers_age,
  ML.FEATURE_CROSS(STRUCT(is_male, ML.BUCKETIZE(mother_age, GENERATE_ARRAY(15, 45, 1)) AS bucketed_mothers_age, plurality,
    ML.BUCKETIZE(gestation_weeks, GENERATE_ARRAY(17, 47, 1)) AS bucketed_gestation_weeks)) AS crossed
)
OPTIONS (MODEL_TYPE="LINEAR_REG", INPUT_LABEL_COLS=["weight_pounds"], L2_REG=0.1, DATA_SPLIT_METHOD="NO_SPLIT") AS
SELECT * EXCEPT(hash_values) FROM babyweight_data WHERE ABS(MOD(hash_values, 10)) < 8

SELECT SQRT(mean_squared_error) AS rmse FROM ML.EVALUATE(MODEL babyweight.buckets,
  (SELECT * EXCEPT(hash_values) FROM babyweight_data WHERE MOD(ABS(hash_values), 10) >= 8))

CREATE OR REPLACE MODEL babyweight.tuned OPTIONS (model_type='linear_reg', input_label_cols=['weight_pounds'], l2_reg=HPARAM_RANGE(0.1, 10), l1_reg=HPARAM_CANDIDATES([0, 0.01, 0.1]),
  num_trials=5, max_parallel_trials=2, hparam_tuning_algorithm='RANDOM_SEARCH', hparam_tuning_objectives=['r2_score']) AS
SELECT weight_pounds, gestation_weeks, mother_age, is_male FROM babyweight_data

SELECT trial_id, hyperparameters, hparam_tuning_evaluation_metrics, status, is_optimal FROM ML.TRIAL_INFO(MODEL babyweight.tuned) ORDER BY trial_id

SELECT trial_id, r2_score FROM ML.EVALUATE(MODEL babyweight.tuned) ORDER BY trial_id

SELECT is_male, ROUND(AVG(predicted_weight_pounds), 1) AS w FROM ML.PREDICT(MODEL babyweight.tuned, TABLE babyweight_data) GROUP BY is_male
